// Data sets whose elements lie in other files are read as they are, or refused: HDF5 itself takes what is missing for
// zeros.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "cohort/data/reader.hpp"
#include "data/files.hpp"
#include "hdf5/file.hpp"
#include "support/python.hpp"

namespace cohort {
namespace {

using namespace cohort::testing;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

class ScatteredSets : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::getenv("COHORT_TEST_SET") != nullptr) return;        // there is one already
    const PythonRun run = run_python(COHORT_SCATTERED_SETS " " + folder_.path().string());
    ASSERT_EQ(run.status, 0) << run.output << "(Debian package python3-h5py)";
  }
  [[nodiscard]] std::string set(const std::string& name) const { return (folder_.path() / name / "set.h5").string(); }
  static std::vector<float> read(const std::string& path) {
    const hdf5::File file = hdf5::File::open(path);
    std::vector<float> values(static_cast<std::size_t>(file.info("x").shape.elements()));
    file.read("x", DType::float32, file.info("x").shape, values.data());
    return values;
  }
  static void expect_numbers(const std::vector<float>& values) {
    EXPECT_FALSE(values.empty());
    for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], static_cast<float>(i + 1));
  }

  TemporaryFolder folder_;
};

TEST_F(ScatteredSets, AreReadWholeOrRefusedNamingWhatIsMissing) {
  int cases = 0;
  for (const auto& entry : fs::directory_iterator(folder_.path())) {
    const std::string name = entry.path().filename().string();
    const std::string expected = read_bytes((entry.path() / "expected").string());
    SCOPED_TRACE(name);
    ++cases;
    if (expected.empty()) {
      expect_numbers(read(set(name)));
      continue;
    }
    Options options = Options().with("reader", "hdf5").with("file", set(name));
    const std::string error = error_of([&] { static_cast<void>(open_reader(options.section())); });
    EXPECT_THAT(error, HasSubstr(set(name) + ": '/x'"));
    EXPECT_THAT(error, HasSubstr(expected));
    EXPECT_EQ(error_of([&] { static_cast<void>(read(set(name))); }), error);
  }
  EXPECT_GT(cases, 20);
}

/// HDF5 looks at its variables when it starts, so this test runs its own program once more.
TEST_F(ScatteredSets, AreSearchedForWhereHdf5Searches) {
  if (const char* whole = std::getenv("COHORT_TEST_SET")) return expect_numbers(read(whole));
  fs::create_directories(folder_.path() / "elsewhere");
  for (const char* name : {"s0.h5", "s1.h5", "s2.h5"}) {
    fs::rename(folder_.path() / "whole" / name, folder_.path() / "elsewhere" / name);
  }
  EXPECT_THAT(error_of([&] { static_cast<void>(read(set("whole"))); }), HasSubstr("s0.h5"));
  const std::string elsewhere = (folder_.path() / "elsewhere").string();
  for (const std::string& prefix : {elsewhere, "/no/such/folder:" + elsewhere, std::string("${ORIGIN}/../elsewhere")}) {
    const std::string self = fs::read_symlink("/proc/self/exe").string();
    const std::string command = "COHORT_TEST_SET=" + set("whole") + " HDF5_VDS_PREFIX='" + prefix + "' " + self +
                                " --gtest_filter=ScatteredSets.AreSearchedForWhereHdf5Searches > /dev/null";
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
  }
}

TEST_F(ScatteredSets, AreRefusedOnceASourceIsGone) {
  Options options = Options().with("reader", "hdf5").with("file", set("whole"));
  const auto reader = open_reader(options.section());
  std::vector<float> values(12);
  std::vector<std::uint32_t> all(12);
  for (std::uint32_t i = 0; i < 12; ++i) all[i] = i;
  void* const buffers[] = {values.data()};
  reader->read(all, buffers);
  expect_numbers(values);
  fs::remove(folder_.path() / "whole/s1.h5");
  EXPECT_THAT(error_of([&] { reader->read(all, buffers); }), HasSubstr("s1.h5, which is gone"));
}

}  // namespace
}  // namespace cohort
