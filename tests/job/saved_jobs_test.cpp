// configuration.toml, which a run writes down, is a job file that says the same; and whatever number a user writes into one, the
// answer is a plan or an error that names the key.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "cohort/faults/fault_injection.hpp"
#include "cohort/updaters/updater.hpp"
#include "cohort/watch/detector.hpp"
#include "data/files.hpp"
#include "job/config.hpp"
#include "run/phases.hpp"
#include "run/setup.hpp"
#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;
using testing::write_bytes;
using Settings = std::vector<std::string>;

/// Small data in place of what the example jobs read.
class SmallData {
 public:
  SmallData() {
    write_bytes(folder_.file("images.gz"), testing::gzip(testing::idx_bytes({4, 28, 28}, std::vector<unsigned char>(4 * 28 * 28))));
    write_bytes(folder_.file("labels"), testing::idx_labels(4));
    write_bytes(folder_.file("text"), std::string(4000, 'x'));
    write_bytes(folder_.file("table.csv"), "a,b,label\n1,2,0\n3,4,1\n");
  }
  [[nodiscard]] std::string file(const std::string& name) const { return folder_.file(name); }
  /// For both data sets of a job.
  [[nodiscard]] Settings instead_of(const fs::path& job) const {
    Section root = std::move(load_configuration(job.string(), {}).root);
    std::string reader;
    root.child("data").child("train").bind("reader", reader, "");
    Settings settings;
    for (const std::string set : {"data.train.", "data.validation."}) {
      if (reader == "idx") settings.insert(settings.end(), {set + "images=" + file("images.gz"), set + "labels=" + file("labels")});
      if (reader == "text") settings.push_back(set + "files=['" + file("text") + "']");
    }
    return settings;
  }

 private:
  TemporaryFolder folder_;
};

std::vector<fs::path> example_jobs() {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(COHORT_JOBS)) {
    if (entry.path().extension() == ".toml") files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

/// All that training makes of a configuration before it looks at a rank.
Description description_of(Section& root) {
  const DetectorOptions watchdog(root.child("watchdog"));
  const std::shared_ptr<const FaultPlan> faults = FaultPlan::from(root, 1);
  return Description(root);
}

std::string saved(const std::string& file, const Settings& settings) {
  Configuration configuration = load_configuration(file, settings);
  return description_of(configuration.root).config_text;
}

void expect_same_when_run_again(const std::string& file, const Settings& settings) {
  const TemporaryFolder folder;
  const std::string first = saved(file, settings), copy = folder.file("configuration.toml");
  write_bytes(copy, first);
  std::string second;
  ASSERT_NO_THROW(second = saved(copy, {})) << first;
  EXPECT_EQ(second, first);
}

TEST(SavedJobs, EveryExampleIsTheSameWhenItIsRunAgain) {
  const SmallData data;
  const std::vector<fs::path> jobs = example_jobs();
  ASSERT_GE(jobs.size(), 8u);
  for (const fs::path& job : jobs) {
    SCOPED_TRACE(job.filename().string());
    expect_same_when_run_again(job.string(), data.instead_of(job));
  }
}

/// Of one job, whatever else there is to choose.
std::vector<Settings> variants(const SmallData& data) {
  std::vector<Settings> all;
  for (const auto& name : updater_names()) all.push_back({"train.updater=" + name});
  for (const auto& name : Registry<OptimizerType>::instance().names()) all.push_back({"optimizer={type='" + name + "'}"});
  for (const auto& name : Registry<CodecType>::instance().names()) all.push_back({"exchange.codec=" + name});
  for (const char* type : {"constant", "cosine", "linear", "polynomial"}) all.push_back({std::string("schedule.type=") + type});
  const std::string table = data.file("table.csv");
  const std::vector<Settings> more = {
      {"schedule={type='step', every=2}"},
      {"schedule={type='step', milestones=[1, 2.5], warmup_steps=3}"},
      {"schedule.scale_with_batch=true", "schedule.reference_batch=64"},
      {"optimizer.group=[{pattern='*/bias'}, {pattern='output/*', decay=false}, {pattern='*', decay=true, frozen=false}]"},
      {"optimizer.group=[{pattern='*/bias'}]"},
      {"warmup={epochs=1, replicas=1}"},
      {"phase=[{epochs=1, batch=8}, {updater={type='sharded', stage=2}}]"},
      {"phase=[]", "fault=[]"},
      {"fault=[{kind='none', seconds=3}, {kind='slow', seconds=0.5}]"},
      {"fault=[{kind='none'}]"},
      {"train.updater=async", "updater={schedule='replay', replay={learners=3}}"},
      {"data.train={reader='csv', file='" + table + "'}", "data.validation={reader='csv', file='" + table + "'}"},
      {"train.directory=007"},
      {"train.directory=1e5"},
      {"train.directory=\"a\\\"b\\\\c\\u001b\\n\\u007f\\u00fc\""},
  };
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

TEST(SavedJobs, EveryChoiceIsTheSameWhenItIsRunAgain) {
  const SmallData data;
  for (const Settings& settings : variants(data)) {
    SCOPED_TRACE(::testing::PrintToString(settings));
    expect_same_when_run_again(std::string(COHORT_JOBS) + "/synthetic.toml", settings);
  }
}

TEST(SavedJobs, KeepWhatWasWrittenAndWhatWasNotSaid) {
  const SmallData data;
  const std::string job = std::string(COHORT_JOBS) + "/synthetic.toml";
  EXPECT_THAT(saved(job, {"train.directory=0042"}), ::testing::HasSubstr("directory = \"0042\"\n"));
  EXPECT_THAT(saved(job, {"train.directory=4711"}), ::testing::HasSubstr("directory = \"4711\"\n"));
  EXPECT_THAT(saved(job, {"optimizer.group=[{pattern='*'}]"}), ::testing::Not(::testing::HasSubstr("\ndecay = ")));
}

// ---- numbers -----------------------------------------------------------------------------------------------------------------

/// The keys of a saved configuration: "train.epochs", "optimizer.group.pattern".
std::vector<std::string> keys_of(const std::string& text) {
  std::vector<std::string> keys;
  std::istringstream lines(text);
  std::string section;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("[[")) section = "?";                    // entries of a list are named by numbers
    else if (line.starts_with('[')) section = line.substr(1, line.find(']') - 1) + ".";
    else if (const auto equals = line.find(" = "); equals != std::string::npos && section != "?") keys.push_back(section + line.substr(0, equals));
  }
  return keys;
}

/// What a run computes from its configuration before the first update, without memory for it.
void plan(Section& root) {
  const Description description = description_of(root);
  Graph graph;
  Batch batch;
  for (const Field& field : description.training_data->fields()) {
    Shape shape = field.shape;
    shape.insert(0, Shape::kUnknown);
    batch.fields.emplace(field.name, graph.placeholder(field.name, field.dtype, shape));
  }
  (void)description.build(graph, batch);
  for (const TrainingPhase& phase : description.phases.phases()) {
    for (const int ranks : {1, 3}) {
      const PhaseBatches batches = phase.batches(description.pipeline, phase.active(ranks));
      const PhaseLength length(batches.pipeline, batches.ways, description.training_data->size(), description.train.accumulate);
      for (const std::int64_t step : {std::int64_t{0}, std::int64_t{1}, std::int64_t{1} << 40}) {
        const double rate = description.schedule->rate(step, {.steps_per_epoch = length.updates_per_epoch, .total_steps = step + 1,
                                                              .global_batch = length.update_samples});
        EXPECT_FALSE(std::isnan(rate));
      }
    }
  }
}

TEST(Numbers, AnyValueOfAnyKeyIsTakenOrRefusedByName) {
  const SmallData data;
  const TemporaryFolder folder;
  std::vector<std::pair<fs::path, Settings>> sources;
  for (const fs::path& job : example_jobs()) sources.emplace_back(job, data.instead_of(job));
  for (const Settings& settings : variants(data)) sources.emplace_back(fs::path(COHORT_JOBS) / "synthetic.toml", settings);
  std::map<std::string, std::string> file_with;                     // each key once, in the first job that has it
  for (const auto& [job, settings] : sources) {
    const std::string text = saved(job.string(), settings), file = folder.file(std::to_string(file_with.size()) + ".toml");
    write_bytes(file, text);
    for (const std::string& key : keys_of(text)) file_with.try_emplace(key, file);
  }
  EXPECT_GT(file_with.size(), 120u);
  for (const auto& [key, file] : file_with) {
    for (const char* value : {"0", "-1", "1", "3", "2147483648", "4611686018427387904", "9223372036854775807", "1e300", "1e-300", "-1e300", "inf", "nan",
                              "true", "\"\"", "{}", "[]", "[4611686018427387904]", "[1e300]", "[inf]", "\x01"}) {
      SCOPED_TRACE(key + " = " + value);
      try {
        Configuration configuration = load_configuration(file, Settings{key + "=" + value});
        plan(configuration.root);
      } catch (const Error& error) {
        const auto dot = key.rfind('.');         // two keys that contradict each other may be told by their sections
        EXPECT_THAT(std::string(error.what()), ::testing::AnyOf(::testing::HasSubstr(key.substr(dot + 1)), ::testing::HasSubstr(key.substr(0, dot))));
      } catch (const std::exception& error) {
        ADD_FAILURE() << "no error of this project: " << error.what();
      }
    }
  }
}

}  // namespace
}  // namespace cohort
