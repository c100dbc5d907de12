// Text files with a header line and numeric columns (RFC 4180: fields may be in double quotes), plain or .gz. One column is
// the label, the others make one vector of features per sample.
#include <algorithm>
#include <charconv>
#include <clocale>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <utility>

#include "cohort/base/error.hpp"
#include "cohort/data/reader.hpp"
#include "data/byte_source.hpp"
#include "data/normalise.hpp"

namespace cohort {
namespace {

struct CsvOptions {
  std::string file, label = "label", label_kind = "class", separator = ",";
  std::vector<std::string> features;
  std::vector<std::int64_t> shape;
  std::int64_t classes = 0;
  Normalise normalise;

  explicit CsvOptions(Section& section) {
    section.bind("file", file, "the text file, plain or .gz");
    section.bind("separator", separator, "between columns", one_of({",", ";", "\t", "|"}));
    section.bind("label", label, "name of the label's column; empty: there is none");
    section.bind("label_kind", label_kind, "class: a whole number (int32); value: a number (float32)",
                 one_of({"class", "value"}));
    section.bind("classes", classes, "class labels are below this; 0: any", at_least(0));
    section.bind("features", features, "names of the feature columns, in this order; empty: all but the label");
    section.bind("shape", shape, "of one sample's features, as in [28, 28, 1]; empty: a vector", at_least(1));
    normalise.bind(section);
    check(!file.empty(), Code::invalid_argument, section.path() + ": reader 'csv' needs the path file");
    check(shape.size() <= Shape::kMaxRank - 1, Code::invalid_argument, section.path() + ".shape: at most 7 dimensions");
  }
};

/// Goes through the text cell by cell; knows where it is, for messages.
class CsvText {
 public:
  CsvText(std::string path, char separator) : path_(std::move(path)), separator_(separator), text_(read_text(path_)) {
    if (text_.starts_with("\xef\xbb\xbf")) at_ = line_start_ = 3;   // byte order mark
    skip_blank_lines();
  }

  [[nodiscard]] bool at_end() const { return at_ >= text_.size(); }

  /// The next cell without its quotes; `last` says that it ends the line. Valid until the next call.
  std::string_view cell(bool& last) {
    cell_start_ = at_;
    std::string_view content;
    if (at_ < text_.size() && text_[at_] == '"') {
      content = quoted();
    } else {
      const std::size_t end = std::min(text_.find_first_of(stops_, at_), text_.size());
      content = std::string_view(text_).substr(at_, end - at_);
      at_ = end;
      if (content.ends_with('\r')) content.remove_suffix(1);
    }
    last = at_ >= text_.size() || text_[at_] == '\n';
    if (at_ < text_.size()) ++at_;
    if (last) end_line_ = true;
    return content;
  }

  /// To be called after the last cell of a line has been used.
  void next_line() {
    if (!std::exchange(end_line_, false)) return;
    ++line_;
    line_start_ = at_;
    skip_blank_lines();
  }

  /// "iris.csv:12:7: why", at the cell that was read last.
  [[noreturn]] void refuse(const std::string& why) const {
    fail(Code::data_loss,
         path_ + ":" + std::to_string(line_) + ":" + std::to_string(cell_start_ - line_start_ + 1) + ": " + why);
  }

 private:
  std::string_view quoted() {
    unquoted_.clear();
    for (++at_;; ++at_) {
      if (at_ >= text_.size() || text_[at_] == '\n') refuse("the quote that opens here is not closed on its line");
      if (text_[at_] == '"') {
        if (at_ + 1 >= text_.size() || text_[at_ + 1] != '"') break;
        ++at_;
      }
      unquoted_ += text_[at_];
    }
    ++at_;
    if (at_ < text_.size() && text_[at_] == '\r') ++at_;
    if (at_ < text_.size() && text_[at_] != separator_ && text_[at_] != '\n') refuse("text goes on after the closing quote");
    return unquoted_;
  }

  void skip_blank_lines() {
    while (at_ < text_.size() &&
           (text_[at_] == '\n' || (text_[at_] == '\r' && at_ + 1 < text_.size() && text_[at_ + 1] == '\n'))) {
      at_ += text_[at_] == '\r' ? 2 : 1;
      ++line_;
      line_start_ = at_;
    }
  }

  std::string path_;
  char separator_;
  std::string text_, unquoted_;
  const char stops_[3] = {separator_, '\n', '\0'};
  std::size_t at_ = 0, line_start_ = 0, cell_start_ = 0, line_ = 1;
  bool end_line_ = false;
};

/// Where each column of the file goes.
struct Columns {
  static constexpr std::int64_t kIgnored = -1, kLabel = -2;
  std::vector<std::string> names;
  std::vector<std::int64_t> target;    ///< a feature's place, or one of the above
  std::int64_t features = 0;
};

Columns read_header(CsvText& text, const CsvOptions& options) {
  check(!text.at_end(), Code::data_loss, options.file + ": is empty, a header line with column names is expected");
  Columns columns;
  for (bool last = false; !last;) {
    std::string name(text.cell(last));
    if (std::find(columns.names.begin(), columns.names.end(), name) != columns.names.end())
      text.refuse("column '" + name + "' is there twice");
    columns.names.push_back(std::move(name));
  }
  columns.target.assign(columns.names.size(), Columns::kIgnored);
  const auto place = [&](const std::string& name) {
    const auto at = std::find(columns.names.begin(), columns.names.end(), name);
    if (at == columns.names.end())
      fail(Code::not_found, options.file + ": " + unknown_name_text("column", name, columns.names));
    return static_cast<std::size_t>(at - columns.names.begin());
  };
  if (!options.label.empty()) columns.target[place(options.label)] = Columns::kLabel;
  for (const std::string& name : options.features) {
    std::int64_t& target = columns.target[place(name)];
    check(target == Columns::kIgnored, Code::invalid_argument, options.file + ": column '" + name + "' is asked for twice");
    target = columns.features++;
  }
  if (options.features.empty()) {
    for (std::int64_t& target : columns.target) {
      if (target == Columns::kIgnored) target = columns.features++;
    }
  }
  check(columns.features > 0, Code::data_loss, options.file + ": has no feature columns");
  text.next_line();
  return columns;
}

class CsvReader final : public Reader {
 public:
  explicit CsvReader(const CsvOptions& options)
      : class_labels_(options.label_kind == "class"), label_(!options.label.empty()) {
    CsvText text(options.file, options.separator.front());
    const Columns columns = read_header(text, options);
    width_ = static_cast<std::size_t>(columns.features);
    const Shape shape = options.shape.empty() ? Shape{columns.features} : Shape(options.shape);
    if (shape.elements() != columns.features) {
      fail(Code::invalid_argument,
           options.file + ": shape " + shape.text() + " for " + std::to_string(columns.features) + " feature columns");
    }
    fields_.push_back({"features", DType::float32, shape});
    if (label_) fields_.push_back({"label", class_labels_ ? DType::int32 : DType::float32, {}});
    while (!text.at_end()) read_line(text, columns, options);
  }

  [[nodiscard]] std::int64_t size() const override { return static_cast<std::int64_t>(features_.size() / width_); }
  [[nodiscard]] const std::vector<Field>& fields() const override { return fields_; }

  void read(std::span<const std::uint32_t> samples, std::span<void* const> buffers) const override {
    for (std::size_t i = 0; i < samples.size(); ++i) {
      std::copy_n(features_.data() + samples[i] * width_, width_, static_cast<float*>(buffers[0]) + i * width_);
      if (!label_) continue;
      if (class_labels_) static_cast<std::int32_t*>(buffers[1])[i] = classes_[samples[i]];
      else static_cast<float*>(buffers[1])[i] = values_[samples[i]];
    }
  }

 private:
  void read_line(CsvText& text, const Columns& columns, const CsvOptions& options) {
    const std::size_t begin = features_.size();
    check(begin / width_ < std::numeric_limits<std::uint32_t>::max(), Code::data_loss,
          options.file + ": more than 2^32 - 1 lines");
    features_.resize(begin + width_);
    bool last = false;
    std::size_t column = 0;
    for (; !last; ++column) {
      const std::string_view cell = text.cell(last);
      if (column >= columns.names.size())
        text.refuse("more cells than the " + std::to_string(columns.names.size()) + " columns of the header");
      const std::int64_t target = columns.target[column];
      if (target == Columns::kIgnored) continue;
      const double value = number(text, columns.names[column], cell);
      const auto in_range = [&](float x) {
        if (!std::isfinite(x)) refuse_cell(text, columns.names[column], cell, "is beyond float32");
        return x;
      };
      if (target >= 0) features_[begin + static_cast<std::size_t>(target)] = in_range(options.normalise(value));
      else if (class_labels_) add_class(text, value, options);
      else values_.push_back(in_range(static_cast<float>(value)));
    }
    if (column < columns.names.size()) {
      text.refuse("the line ends after " + std::to_string(column) + " cells, the header has " +
                  std::to_string(columns.names.size()) + " columns");
    }
    text.next_line();
  }

  static double number(const CsvText& text, const std::string& column, std::string_view cell) {
    std::string_view digits = cell;
    while (digits.starts_with(' ')) digits.remove_prefix(1);
    while (digits.ends_with(' ')) digits.remove_suffix(1);
    if (digits.starts_with('+')) digits.remove_prefix(1);
    double value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error == std::errc::result_out_of_range) value = out_of_range(std::string(digits));
    else if (error != std::errc{}) value = std::numeric_limits<double>::quiet_NaN();
    if (end != digits.data() + digits.size() || !std::isfinite(value))
      refuse_cell(text, column, cell, "is not a finite number");
    return value;
  }

  /// What from_chars does not tell apart: infinity for what is too large, and what is nearest for what is too small.
  static double out_of_range(const std::string& digits) {
    static const locale_t with_points = newlocale(LC_ALL_MASK, "C", nullptr);
    return strtod_l(digits.c_str(), nullptr, with_points);
  }

  [[noreturn]] static void refuse_cell(const CsvText& text, const std::string& column, std::string_view cell,
                                       const char* why) {
    text.refuse("column '" + column + "': '" + std::string(cell.substr(0, 40)) + "' " + why);
  }

  void add_class(const CsvText& text, double value, const CsvOptions& options) {
    const double most =
        options.classes > 0 ? static_cast<double>(options.classes) - 1 : std::numeric_limits<std::int32_t>::max();
    if (value < 0 || value > most || value != std::floor(value)) {
      text.refuse("column '" + options.label + "': a class is a whole number from 0 to " +
                  std::to_string(static_cast<std::int64_t>(most)) + ", this is " + std::to_string(value));
    }
    classes_.push_back(static_cast<std::int32_t>(value));
  }

  bool class_labels_, label_;
  std::size_t width_ = 0;
  std::vector<Field> fields_;
  std::vector<float> features_, values_;
  std::vector<std::int32_t> classes_;
};

const Registered<ReaderType> reader{
    "csv", {.open = [](Section& section) { return std::make_unique<CsvReader>(CsvOptions(section)); }}};

}  // namespace
}  // namespace cohort
