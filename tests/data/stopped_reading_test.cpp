// A wish to stop ends the reading of large files, whatever the reader.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include "cohort/base/stop.hpp"
#include "cohort/data/reader.hpp"
#include "data/byte_source.hpp"
#include "data/files.hpp"

namespace cohort {
namespace {

using namespace cohort::testing;
using ::testing::HasSubstr;

/// Somebody has asked.
class Asked {
 public:
  Asked() { listen_for_stop(&flag_); }
  Asked(const Asked&) = delete;
  Asked& operator=(const Asked&) = delete;
  ~Asked() { listen_for_stop(nullptr); }

 private:
  std::atomic<bool> flag_{true};
};

const ExpansionLimit kLimit{};

TEST(StoppedReading, EndsWhereverAFileIsRead) {
  const TemporaryFolder folder;
  std::string csv = "a,b\n";
  for (int i = 0; i < 9000; ++i) csv += "1,2\n";
  write_bytes(folder.file("table.csv"), csv);
  write_bytes(folder.file("table.csv.gz"), gzip(csv));
  std::filesystem::create_directories(folder.path() / "images" / "cat");
  write_bytes(folder.file("images/cat/1.png"), "not looked at");
  EXPECT_EQ(read_text(folder.file("table.csv"), kLimit), csv);
  const Asked asked;
  for (const char* name : {"table.csv", "table.csv.gz"}) {
    EXPECT_THROW(static_cast<void>(read_text(folder.file(name), kLimit)), StopRequested) << name;
    EXPECT_THAT(error_of([&] { static_cast<void>(read_text(folder.file(name), kLimit)); }), HasSubstr("stopped as asked while reading " + folder.file(name)));
  }
  Options csv_options = Options().with("reader", "csv").with("file", folder.file("table.csv"));
  EXPECT_THROW(static_cast<void>(open_reader(csv_options.section())), StopRequested);
  Options images = Options().with("reader", "image_folder").with("directory", folder.file("images"));
  EXPECT_THAT(error_of([&] { static_cast<void>(open_reader(images.section())); }), HasSubstr("stopped as asked while listing "));
}

}  // namespace
}  // namespace cohort
