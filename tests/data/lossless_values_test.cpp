// Whatever types are stored and asked for: values come as they are, rounded at most, or one error names the one that
// cannot.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <limits>
#include <optional>
#include <random>
#include <type_traits>

#include "cohort/data/reader.hpp"
#include "data/files.hpp"
#include "hdf5/file.hpp"
#include "support/python.hpp"

namespace cohort {
namespace {

using namespace cohort::testing;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// What T makes of a number, by the rules and nothing else; nothing if it cannot hold it.
template <class T>
std::optional<double> held(long double x) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isfinite(x) && std::fabs(x) > std::numeric_limits<T>::max()) return {};
    return static_cast<double>(static_cast<T>(x));
  } else {
    if (!std::isfinite(x) || x != std::floor(x)) return {};
    if (x < std::numeric_limits<T>::min() || x > std::numeric_limits<T>::max()) return {};
    return static_cast<double>(static_cast<T>(x));
  }
}

const std::vector<std::string> kTypes = {"float32", "float64", "int32", "int64", "uint8"};

/// Stores one value among 40 others at a random place, in every type that NumPy has, and asks for it as every type.
TEST(LosslessValues, OfEveryStoredTypeAsEveryOther) {
  const TemporaryFolder folder;
  const std::string script = folder.file("write.py");
  write_bytes(script, R"(
import sys, h5py, numpy
values = ["0", "1", "-1", "127", "128", "255", "256", "-129", "65535", "2147483647", "2147483648", "-2147483649", "4294967296",
          "9223372036854775807", "18446744073709551615", "0.5", "-2.25", "70000", "3e38", "4e38", "-4e38", "1e300", "1e-300", "inf",
          "-inf", "nan"]
with h5py.File(sys.argv[1], "w") as file:
    for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">i4", ">i8", ">u8", ">f4", ">f8"):
        for number, text in enumerate(values):
            whole = kind.strip(">")[0] in "iu"
            if whole and not text.lstrip("-").isdigit():
                continue
            with numpy.errstate(all="ignore"):
                try:
                    stored = numpy.array([int(text)], dtype=kind) if whole else numpy.array([float(text)]).astype(kind)
                except OverflowError:
                    continue
            if whole and int(stored[0]) != int(text):
                continue
            place = (7 * number + len(kind)) % 40
            data = numpy.ones((10, 2, 2), dtype=kind)
            data.reshape(-1)[place] = stored[0]
            name = f"{kind.replace('>', 'big-')}/{number}"
            file[name] = data
            file[name].attrs["place"] = place
            file[name].attrs["text"] = numpy.bytes_(repr(stored[0].item()).encode())
)");
  const PythonRun run = run_python(script + " " + folder.file("s.h5"));
  ASSERT_EQ(run.status, 0) << run.output;
  const hdf5::File file = hdf5::File::open(folder.file("s.h5"));
  const std::vector<std::uint32_t> rows = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  int refused = 0, read = 0;
  for (const std::string& dataset : file.datasets()) {
    const auto place = static_cast<std::size_t>(file.attribute<std::int64_t>(dataset, "place"));
    const std::string text = file.attribute<std::string>(dataset, "text");
    const long double stored = std::strtold(text.c_str(), nullptr);
    for (const std::string& type : kTypes) {
      SCOPED_TRACE(dataset + " as " + type + ": " + text);
      dispatch(dtype_from(type), [&]<class T>() {
        if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
          const std::optional<double> expected = held<T>(stored);
          for (const bool by_rows : {false, true}) {
            std::vector<T> values(40);
            const std::string error = error_of([&] {
              if (by_rows) file.read_rows(dataset, dtype_from(type), rows, values.data());
              else file.read(dataset, dtype_from(type), {10, 2, 2}, values.data());
            });
            (expected ? read : refused) += 1;
            if (!expected) {
              const std::string at = "element [" + std::to_string(place / 4) + ", " + std::to_string(place / 2 % 2) + ", " +
                                     std::to_string(place % 2) + "] is ";
              EXPECT_THAT(error,
                          AllOf(HasSubstr("s.h5: '" + dataset + "': " + at), HasSubstr("which " + type + " cannot hold")));
              continue;
            }
            ASSERT_THAT(error, IsEmpty());
            for (std::size_t i = 0; i < 40; ++i) {
              const double wanted = i == place ? *expected : 1.0, got = static_cast<double>(values[i]);
              EXPECT_TRUE(got == wanted || (std::isnan(got) && std::isnan(wanted))) << i << ": " << got << ", " << wanted;
            }
          }
        }
      });
    }
  }
  EXPECT_GT(refused, 300);
  EXPECT_GT(read, 1000);
}

std::string csv_error(const TemporaryFolder& folder, const std::string& cell, Options options = {}) {
  write_bytes(folder.file("s.csv"), "a,y\n1,2\n3," + cell + "\n");
  options.with("reader", "csv").with("file", folder.file("s.csv")).with("label", "").with("features", {"a", "y"});
  return error_of([&] { static_cast<void>(open_reader(options.section())); });
}

float csv_value(const TemporaryFolder& folder, const std::string& cell) {
  write_bytes(folder.file("s.csv"), "y\n" + cell + "\n");
  const auto reader =
      open_reader(Options().with("reader", "csv").with("file", folder.file("s.csv")).with("label", "").section());
  float value = 7;
  void* const buffers[] = {&value};
  reader->read(std::vector<std::uint32_t>{0}, buffers);
  return value;
}

TEST(LosslessValues, OfCsvCells) {
  const TemporaryFolder folder;
  for (const char* cell : {"1e400", "-1e400", "1e39", "-1e39", "3.41e38", "1e308"}) {
    EXPECT_THAT(csv_error(folder, cell), AllOf(HasSubstr("s.csv:3:3: column 'y': '"), HasSubstr(cell))) << cell;
  }
  EXPECT_THAT(csv_error(folder, "1e30", Options().with("scale", 1e20)), HasSubstr("s.csv:3:3: column 'y': '1e30'"));
  for (const auto& [cell, value] :
       std::initializer_list<std::pair<const char*, float>>{{"1e-400", 0.f},
                                                            {"-1e-400", -0.f},
                                                            {"1e-50", 0.f},
                                                            {"0.000e999999", 0.f},
                                                            {"3.4e38", 3.4e38f},
                                                            {"1e-40", 1e-40f},
                                                            {"1e-99999", 0.f},
                                                            {"-3.4028234e38", -3.4028234e38f}}) {
    EXPECT_EQ(csv_value(folder, cell), value) << cell;
  }
  write_bytes(folder.file("v.csv"), "a,label\n1,2\n1,1e39\n");
  const Options label = Options().with("reader", "csv").with("file", folder.file("v.csv")).with("label_kind", "value");
  EXPECT_THAT(error_of([&] { static_cast<void>(open_reader(label.section())); }),
              HasSubstr("v.csv:3:3: column 'label': '1e39'"));
}

TEST(LosslessValues, AfterNormalisation) {
  const TemporaryFolder folder;
  const float stored[] = {1.f, 1e30f, static_cast<float>(kInfinity)};
  hdf5::File out = hdf5::File::create(folder.file("s.h5"));
  out.write("x", DType::float32, {3}, stored);
  out.close();
  Options options = Options().with("reader", "hdf5").with("file", folder.file("s.h5"));
  Section& field = options.section().add_child_entry("field");
  field.set("name", {std::string("x"), "test"});
  field.set("dtype", {std::string("float32"), "test"});
  field.set("scale", {1e20, "test"});
  const auto reader = open_reader(options.section());
  float value = 0;
  void* const buffers[] = {&value};
  EXPECT_THAT(error_of([&] { reader->read(std::vector<std::uint32_t>{1}, buffers); }),
              HasSubstr("s.h5: '/x': sample 1 holds "));
  reader->read(std::vector<std::uint32_t>{2}, buffers);
  EXPECT_EQ(value, static_cast<float>(kInfinity));
  write_bytes(folder.file("i"), idx_images(12));
  write_bytes(folder.file("l"), idx_labels(12));
  Options idx = Options().with("images", folder.file("i")).with("labels", folder.file("l")).with("std", 1e-40);
  EXPECT_THAT(error_of([&] { static_cast<void>(open_reader(idx.section())); }), HasSubstr("beyond float32"));
}

}  // namespace
}  // namespace cohort
