// Links and files outside: a checkpoint never writes through one, and never reads one as if it were its own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "checkpoint/checkpoint_reader.hpp"
#include "checkpoint/sample_state.hpp"
#include "cohort/checkpoint/checkpoint.hpp"
#include "support/python.hpp"
#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;
using namespace cohort::testing;
using ::testing::HasSubstr;

void save(const TemporaryFolder& folder, SampleState& state, std::int64_t step, CheckpointWriter& writer) {
  Stateful* parts[] = {&state};
  writer.save(parts, step);
  writer.close();
  EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(folder.path() / ("step-000000000" + std::to_string(step) + ".h5"))));
}

TEST(Links, AreNotWrittenThrough) {
  const TemporaryFolder folder;
  SampleState state(1), loaded(0);
  CheckpointWriter writer(folder.path(), 5, "");
  write_bytes(folder.file("victim"), "somebody's");
  fs::create_symlink(folder.path() / "victim", folder.path() / ".writing-step-0000000001.h5");
  save(folder, state, 1, writer);
  fs::create_hard_link(folder.path() / "victim", folder.path() / ".writing-step-0000000002.h5");
  save(folder, state, 2, writer);
  write_bytes(folder.file(".writing-step-0000000003.h5"), "of a writer that has died");
  save(folder, state, 3, writer);
  EXPECT_EQ(read_bytes(folder.file("victim")), "somebody's");
  Stateful* parts[] = {&loaded};
  EXPECT_EQ(load_checkpoint(folder.path(), parts).step, 3);
  EXPECT_EQ(loaded.bits(), state.bits());
}

TEST(Links, ElementsInAnotherFileAreRefused) {
  const std::string script = R"(
import sys, h5py
path, how = sys.argv[1:3]
with h5py.File(path, "a") as file:
    old = file["parameters/hidden/bias"]
    values, attributes = old[()], dict(old.attrs)
    del file["parameters/hidden/bias"]
    if how == "storage":
        values.tofile(path + ".raw")
        new = file.create_dataset("parameters/hidden/bias", values.shape, "f4", external=[(path + ".raw", 0, h5py.h5f.UNLIMITED)])
        new.attrs.update(attributes)
    else:
        with h5py.File(path + ".other", "w") as other:
            other["x"] = values
            other["x"].attrs.update(attributes)
        file["parameters/hidden/bias"] = h5py.ExternalLink(path + ".other", "/x")
)";
  for (const std::string how : {"storage", "link"}) {
    const TemporaryFolder folder;
    SampleState state(1), loaded(0);
    CheckpointWriter writer(folder.path(), 5, "");
    save(folder, state, 1, writer);
    const std::string file = folder.file("step-0000000001.h5");
    write_bytes(folder.file("change.py"), script);
    const PythonRun run = run_python(folder.file("change.py") + " " + file + " " + how);
    ASSERT_EQ(run.status, 0) << run.output << "(Debian package python3-h5py)";
    Stateful* parts[] = {&loaded};
    const std::string error = error_of([&] { static_cast<void>(load_checkpoint(file, parts)); });
    EXPECT_THAT(error, HasSubstr(how == "storage" ? file + ": '/parameters/hidden/bias' has its elements in a file outside"
                                                  : file + ": is not of this model and optimizer; missing in the file: /parameters/hidden/bias"));
    EXPECT_EQ(is_intact_checkpoint(file), how == "link");      // what it has of its own is, and the tensor is none of that
  }
}

}  // namespace
}  // namespace cohort
