// The bytes of text files, plain or .gz, one file behind the other. A sample is a window of context + 1 bytes: `input` its first
// ones, `target` each one's successor. For validation a share of the text is held out: it is cut into blocks, and the end of
// every block is validation data, so that both parts have some of every file and subject, and no window is in both.
#include <fnmatch.h>
#include <glob.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

#include "cohort/base/error.hpp"
#include "cohort/data/reader.hpp"
#include "data/byte_source.hpp"

namespace cohort {
namespace {

struct TextOptions {
  std::vector<std::string> files, exclude;
  std::string part = "all";
  double held_out = 0.1;
  std::int64_t context = 128, stride = 0, block = 1 << 16;
  ExpansionLimit expansion;

  explicit TextOptions(Section& section) {
    section.bind_paths("files", files,
                       "the text files, plain or .gz; shell patterns stand for all that match, sorted by name, unless there is a file of just that name");
    section.bind("exclude", exclude, "shell patterns of names (without folder) that patterns in files shall not match");
    section.bind("context", context, "bytes of a sample's input", between(1, 1 << 20));
    section.bind("stride", stride, "bytes from one sample to the next; 0: as many as the context", at_least(0));
    section.bind("part", part, "train: without what is held out; validation: only that; all: everything",
                 one_of({"train", "validation", "all"}));
    section.bind("held_out", held_out, "share of each block that is held out for validation", between(0, 1));
    section.bind("block", block, "bytes of a block", at_least(2));
    expansion.bind(section);
    check(!files.empty(), Code::invalid_argument, section.path() + ": reader 'text' needs files, a list of paths");
    if (stride == 0) stride = context;
  }
};

bool is_excluded(const std::string& path, const std::vector<std::string>& exclude) {
  const std::string name = path.substr(path.rfind('/') + 1);
  return std::any_of(exclude.begin(), exclude.end(), [&](const std::string& pattern) { return fnmatch(pattern.c_str(), name.c_str(), 0) == 0; });
}

/// The files that the options name, patterns expanded: a file whose own name looks like a pattern is that file. Error not_found for a pattern that matches none.
std::vector<std::string> files_of(const TextOptions& options) {
  std::vector<std::string> result;
  for (const std::string& file : options.files) {
    std::error_code none;
    if (file.find_first_of("*?[") == std::string::npos || std::filesystem::exists(file, none)) {
      result.push_back(file);
      continue;
    }
    const std::size_t before = result.size();
    glob_t found{};
    if (glob(file.c_str(), GLOB_MARK, nullptr, &found) == 0) {
      for (std::size_t i = 0; i < found.gl_pathc; ++i) {
        const std::string path = found.gl_pathv[i];
        if (!path.ends_with('/') && !is_excluded(path, options.exclude)) result.push_back(path);
      }
    }
    globfree(&found);
    check(result.size() > before, Code::not_found, "reader 'text': no file matches " + file);
  }
  return result;
}

class TextReader final : public Reader {
 public:
  explicit TextReader(const TextOptions& options) : context_(options.context), stride_(options.stride) {
    for (const std::string& file : files_of(options)) text_ += read_text(file, options.expansion);
    const Shape shape{context_};
    fields_ = {{"input", DType::int32, shape}, {"target", DType::int32, shape}};
    const std::int64_t bytes = std::ssize(text_), block = options.part == "all" ? std::max<std::int64_t>(bytes, 1) : options.block;
    for (std::int64_t begin = 0; begin < bytes; begin += block) add_run(options, begin, std::min(block, bytes - begin));
    if (samples_ == 0) {
      fail(Code::invalid_argument, options.files.front() + (options.files.size() > 1 ? " and the other files" : "") + ": the " + std::to_string(bytes) +
                                       " bytes of text have no window of " + std::to_string(context_ + 1) + " bytes in part '" +
                                       options.part + "'");
    }
    check(samples_ <= std::numeric_limits<std::uint32_t>::max(), Code::invalid_argument,
          "reader 'text': more than 2^32 - 1 samples, choose a larger stride");
  }

  [[nodiscard]] std::int64_t size() const override { return samples_; }
  [[nodiscard]] const std::vector<Field>& fields() const override { return fields_; }

  void read(std::span<const std::uint32_t> samples, std::span<void* const> buffers) const override {
    auto *input = static_cast<std::int32_t*>(buffers[0]), *target = static_cast<std::int32_t*>(buffers[1]);
    const auto* bytes = reinterpret_cast<const unsigned char*>(text_.data());
    for (const std::uint32_t sample : samples) {
      const unsigned char* from = bytes + start_of(sample);
      input = std::copy_n(from, context_, input);
      target = std::copy_n(from + 1, context_, target);
    }
  }

 private:
  /// A stretch of the text that windows may lie in, and the number of its first one.
  struct Run {
    std::int64_t begin, first_sample;
  };

  void add_run(const TextOptions& options, std::int64_t begin, std::int64_t length) {
    const auto held_out = static_cast<std::int64_t>(static_cast<double>(length) * options.held_out);
    if (options.part == "train") length -= held_out;
    if (options.part == "validation") {
      begin += length - held_out;
      length = held_out;
    }
    if (length <= context_) return;
    runs_.push_back({begin, samples_});
    samples_ += (length - context_ - 1) / stride_ + 1;
  }

  [[nodiscard]] std::int64_t start_of(std::int64_t sample) const {
    const auto after = std::upper_bound(runs_.begin(), runs_.end(), sample, [](std::int64_t s, const Run& run) { return s < run.first_sample; });
    const Run& run = *std::prev(after);
    return run.begin + (sample - run.first_sample) * stride_;
  }

  std::int64_t context_, stride_, samples_ = 0;
  std::string text_;
  std::vector<Field> fields_;
  std::vector<Run> runs_;
};

const Registered<ReaderType> reader{"text", reader_type<TextReader, TextOptions>()};

}  // namespace
}  // namespace cohort
