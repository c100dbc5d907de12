// A folder with one folder per class, of PNG and JPEG files: label i is the i-th class by name, or of a list that is given.
// Files are decoded when their samples are read, on the threads that prepare batches.
#include <algorithm>
#include <cctype>
#include <filesystem>

#include "cohort/base/error.hpp"
#include "cohort/base/stop.hpp"
#include "cohort/data/reader.hpp"
#include "data/decode_image.hpp"
#include "data/normalise.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;

struct ImageFolderOptions {
  std::string directory;
  std::vector<std::string> classes;
  std::int64_t height = 0, width = 0;
  DecodeOptions decode;
  Normalise normalise{.scale = 1.0 / 255};

  explicit ImageFolderOptions(Section& section) {
    section.bind_path("directory", directory, "has a folder of .png, .jpg and .jpeg files for each class");
    section.bind(
        "classes", classes,
        "names of the classes, label 0 first; a folder that is not listed is an error. Empty: all folders by name");
    section.bind("height", height, "pixels that every image is brought to; 0: those of the first image", at_least(0));
    section.bind("width", width, "pixels that every image is brought to; 0: those of the first image", at_least(0));
    section.bind("channels", decode.channels, "1: grey, 3: red, green, blue; what is stored is converted", between(1, 3));
    std::string depth = "8 bit";
    section.bind("depth", depth,
                 "of 16-bit files. 8 bit: their upper 8 bits; full: their values / 257, in the same range but not whole",
                 one_of({"8 bit", "full"}));
    decode.full_depth = depth == "full";
    section.bind("apply_gamma", decode.apply_gamma, "bring files that name a gamma to that of screens; else values stay");
    section.bind("most_megapixels", decode.limit.megapixels, "a larger image is refused", above(0));
    decode.limit.option = section.path() + ".most_megapixels";
    normalise.bind(section);
    normalise.require_in_range(section, 255);
    check(!directory.empty(), Code::invalid_argument, section.path() + ": reader 'image_folder' needs the path directory");
    check(decode.channels != 2, Code::invalid_argument,
          section.path() + ".channels is 2, it must be 1 (grey) or 3 (red, green, blue)");
  }
};

bool is_image(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".png" || extension == ".jpg" || extension == ".jpeg";
}

/// What is in a folder and satisfies `wanted`, by name: the same order on every machine.
template <class Wanted>
std::vector<fs::path> sorted_entries(const fs::path& folder, Wanted wanted) {
  std::error_code error;
  std::vector<fs::path> entries;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    throw_if_stopped("listing", folder.string());
    if (wanted(entry)) entries.push_back(entry.path());
  }
  if (error) fail(Code::not_found, folder.string() + ": cannot be listed: " + error.message());
  std::sort(entries.begin(), entries.end());
  return entries;
}

class ImageFolderReader final : public Reader {
 public:
  explicit ImageFolderReader(const ImageFolderOptions& options) : options_(options) {
    const auto classes = sorted_entries(options.directory, [](const fs::directory_entry& e) { return e.is_directory(); });
    if (classes.empty()) fail(Code::not_found, options.directory + ": has no folders, expected one per class");
    names_ = options.classes;
    for (std::size_t i = 0; options.classes.empty() && i < classes.size(); ++i)
      names_.push_back(classes[i].filename().string());
    require_names(options.directory);
    for (const fs::path& folder : classes) {
      const auto files =
          sorted_entries(folder, [](const fs::directory_entry& e) { return e.is_regular_file() && is_image(e.path()); });
      if (files.empty()) fail(Code::not_found, folder.string() + ": has no .png, .jpg or .jpeg files");
      const std::int32_t label = label_of(folder);
      for (const fs::path& file : files) samples_.push_back({file.string(), label});
    }
    if (options_.height == 0 || options_.width == 0) {
      const DecodedImage first = decode_image(samples_[0].path, options_.decode);
      if (options_.height == 0) options_.height = first.height;
      if (options_.width == 0) options_.width = first.width;
    }
    fields_ = {{"image", DType::float32, {options_.height, options_.width, options_.decode.channels}},
               {"label", DType::int32, {}}};
  }

  [[nodiscard]] std::int64_t size() const override { return std::ssize(samples_); }
  [[nodiscard]] const std::vector<Field>& fields() const override { return fields_; }

  [[nodiscard]] Classes classes() const override { return {"label", names_}; }

  void read(std::span<const std::uint32_t> samples, std::span<void* const> buffers) const override {
    const std::int64_t pixels = fields_[0].shape.elements();
    auto* image = static_cast<float*>(buffers[0]);
    auto* label = static_cast<std::int32_t*>(buffers[1]);
    for (const std::uint32_t sample : samples) {
      const auto& [path, number] = samples_[sample];
      resample(decode_image(path, options_.decode), options_.height, options_.width, image);
      for (std::int64_t i = 0; i < pixels; ++i) image[i] = options_.normalise(static_cast<double>(image[i]));
      image += pixels;
      *label++ = number;
    }
  }

 private:
  struct Sample {
    std::string path;
    std::int32_t label;
  };

  void require_names(const std::string& directory) const {
    for (std::size_t i = 0; i < names_.size(); ++i) {
      const bool printable = !names_[i].empty() && names_[i].find('\n') == std::string::npos;
      check(printable, Code::invalid_argument, directory + ": a class with the name '" + names_[i] + "'");
      const auto again = std::find(names_.begin() + static_cast<std::ptrdiff_t>(i) + 1, names_.end(), names_[i]);
      check(again == names_.end(), Code::invalid_argument, directory + ": class '" + names_[i] + "' is listed twice");
    }
  }

  [[nodiscard]] std::int32_t label_of(const fs::path& folder) const {
    const auto at = std::find(names_.begin(), names_.end(), folder.filename().string());
    if (at == names_.end()) {
      fail(Code::invalid_argument, folder.string() + ": " + unknown_name_text("class", folder.filename().string(), names_));
    }
    return static_cast<std::int32_t>(at - names_.begin());
  }

  ImageFolderOptions options_;
  std::vector<std::string> names_;
  std::vector<Sample> samples_;
  std::vector<Field> fields_;
};

const Registered<ReaderType> reader{"image_folder", reader_type<ImageFolderReader, ImageFolderOptions>()};

}  // namespace
}  // namespace cohort
