// Text files with a header line and columns (RFC 4180: cells may be in double quotes, and then hold separators and line ends),
// plain or .gz. One column is the label, a number or the name of a class; the others are numbers, and make one field per sample.
#include <algorithm>
#include <charconv>
#include <clocale>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <unordered_map>
#include <utility>

#include "cohort/base/error.hpp"
#include "cohort/base/stop.hpp"
#include "cohort/data/reader.hpp"
#include "data/byte_source.hpp"
#include "data/normalise.hpp"

namespace cohort {
namespace {

struct CsvOptions {
  std::string file, label = "label", label_kind = "class", separator = ",", field = "features";
  std::vector<std::string> features, names;
  std::vector<std::int64_t> shape;
  std::int64_t classes = 0;
  ExpansionLimit expansion;
  Normalise normalise;

  explicit CsvOptions(Section& section) {
    section.bind_path("file", file, "the text file, plain or .gz");
    section.bind("separator", separator, "between columns", one_of({",", ";", "\t", "|"}));
    section.bind("label", label, "name of the label's column; empty: there is none");
    section.bind("label_kind", label_kind,
                 "class: a whole number (int32); name: a text that names the class; value: a number (float32)",
                 one_of({"class", "name", "value"}));
    section.bind("classes", classes, "class labels are below this; 0: any", at_least(0));
    section.bind("names", names,
                 "names of the classes, label 0 first, for label_kind = \"name\"; one that is not listed is an error. Empty: all "
                 "that there are, sorted");
    section.bind("features", features, "names of the feature columns, in this order; empty: all but the label");
    section.bind("field", field, "the features' name in the batch, which a model may look for: image");
    section.bind("shape", shape, "of one sample's features, as in [28, 28, 1]; empty: a vector", at_least(1));
    expansion.bind(section);
    normalise.bind(section);
    check(!file.empty(), Code::invalid_argument, section.path() + ": reader 'csv' needs the path file");
    check(shape.size() <= Shape::kMaxRank - 1, Code::invalid_argument, section.path() + ".shape: at most 7 dimensions");
    check(!field.empty() && (label.empty() || field != "label"), Code::invalid_argument,
          section.path() + ".field is '" + field + "': it must be a name, and another than that of the label's field");
    check(names.empty() || label_kind == "name", Code::invalid_argument,
          section.path() + ".names: are those of label_kind = \"name\"");
  }
};

/// A cell or the name of a column, for messages: not all of a long one, and on one line.
std::string shown(std::string_view text) {
  constexpr std::size_t kMost = 40;
  std::string line;
  for (const char c : text.substr(0, kMost)) line += c == '\n' ? "\\n" : c == '\r' ? "\\r" : std::string{c};
  return "'" + line + (text.size() > kMost ? "…'" : "'");
}

/// Goes through the text cell by cell; knows where it is, for messages.
class CsvText {
 public:
  CsvText(const CsvOptions& options)
      : path_(options.file), separator_(options.separator.front()), text_(read_text(path_, options.expansion)) {
    if (text_.starts_with("\xef\xbb\xbf")) at_ = line_start_ = 3;   // byte order mark
    skip_blank_lines();
  }

  [[nodiscard]] bool at_end() const { return at_ >= text_.size(); }

  /// The next cell without its quotes; `last` says that it ends the line. Valid until the next call.
  std::string_view cell(bool& last) {
    pass_line_ends();
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
    pass_line_ends();
    if (++line_ % 4096 == 0) throw_if_stopped("reading", path_);
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
      if (at_ >= text_.size()) refuse("the quote that opens here is never closed");
      if (text_[at_] == '"') {
        if (at_ + 1 >= text_.size() || text_[at_ + 1] != '"') break;
        ++at_;
      }
      if (text_[at_] == '\n') {
        ++inner_lines_;
        inner_start_ = at_ + 1;
      }
      unquoted_ += text_[at_];
    }
    ++at_;
    if (at_ < text_.size() && text_[at_] == '\r') ++at_;
    if (at_ < text_.size() && text_[at_] != separator_ && text_[at_] != '\n') refuse("text goes on after the closing quote");
    return unquoted_;
  }

  /// What comes behind a cell with line ends is on the line of its closing quote.
  void pass_line_ends() {
    if (inner_lines_ == 0) return;
    line_ += std::exchange(inner_lines_, 0);
    line_start_ = inner_start_;
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
  std::size_t inner_lines_ = 0, inner_start_ = 0;    // line ends in the cell that was read last, and where the last one ends
  bool end_line_ = false;
};

/// Where each column of the file goes.
struct Columns {
  static constexpr std::int64_t kIgnored = -1, kLabel = -2;
  std::vector<std::string> names;
  std::vector<std::int64_t> target;    ///< a feature's place, or one of the above
  std::int64_t features = 0;
};

/// Where each name stands, so that a header of many columns is read in linear time.
using Places = std::unordered_map<std::string, std::size_t>;

/// Without a name a column cannot be meant to be a feature; programs write such ones unasked.
void require_names(const CsvText& text, const std::vector<std::string>& names) {
  if (names[0].empty() || names[0] == "Unnamed: 0") {
    text.refuse("the first column has no name, which is how pandas writes its index: write the table with index=False, or "
                "list the columns to use in features = [...]");
  }
  for (std::size_t i = 1; i < names.size(); ++i) {
    if (!names[i].empty()) continue;
    text.refuse("column " + std::to_string(i + 1) + " has no name (does the line end with a separator?): name it, or list the "
                "columns to use in features = [...]");
  }
}

Columns read_header(CsvText& text, const CsvOptions& options) {
  check(!text.at_end(), Code::data_loss, options.file + ": is empty, a header line with column names is expected");
  Columns columns;
  Places places;
  for (bool last = false; !last;) {
    std::string name(text.cell(last));
    if (!places.emplace(name, columns.names.size()).second && !name.empty())
      text.refuse("column " + shown(name) + " is there twice");
    columns.names.push_back(std::move(name));
  }
  if (options.features.empty()) require_names(text, columns.names);
  columns.target.assign(columns.names.size(), Columns::kIgnored);
  const auto place = [&](const std::string& name) {
    const auto at = places.find(name);
    if (at == places.end()) fail(Code::not_found, options.file + ": " + unknown_name_text("column", name, columns.names));
    return at->second;
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
      : class_labels_(options.label_kind != "value"), named_(options.label_kind == "name"), label_(!options.label.empty()),
        listed_(!options.names.empty()), names_(options.names) {
    CsvText text(options);
    const Columns columns = read_header(text, options);
    width_ = static_cast<std::size_t>(columns.features);
    const Shape shape = options.shape.empty() ? Shape{columns.features} : Shape(options.shape);
    if (shape.elements() != columns.features) {
      fail(Code::invalid_argument,
           options.file + ": shape " + shape.text() + " for " + std::to_string(columns.features) + " feature columns");
    }
    fields_.push_back({options.field, DType::float32, shape});
    if (label_) fields_.push_back({"label", class_labels_ ? DType::int32 : DType::float32, {}});
    for (std::size_t i = 0; i < names_.size(); ++i) {
      check(is_name(names_[i]), Code::invalid_argument, options.file + ": a class with the name " + shown(names_[i]));
      check(label_of_.emplace(names_[i], i).second, Code::invalid_argument,
            options.file + ": class " + shown(names_[i]) + " is listed twice");
    }
    while (!text.at_end()) read_line(text, columns, options);
    if (named_ && !listed_) sort_names();
    if (options.classes > 0 && std::ssize(names_) > options.classes) {
      fail(Code::invalid_argument, options.file + ": column '" + options.label + "' has " + std::to_string(names_.size()) +
                                       " classes, more than classes = " + std::to_string(options.classes));
    }
  }

  [[nodiscard]] std::int64_t size() const override { return static_cast<std::int64_t>(features_.size() / width_); }
  [[nodiscard]] const std::vector<Field>& fields() const override { return fields_; }
  [[nodiscard]] Classes classes() const override { return {"label", names_}; }

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
      if (target == Columns::kLabel && named_) {
        add_name(text, options.label, cell);
        continue;
      }
      const double value = number(text, columns.names[column], cell, target == Columns::kLabel && class_labels_);
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

  static double number(const CsvText& text, const std::string& column, std::string_view cell, bool is_class) {
    std::string_view digits = cell;
    while (digits.starts_with(' ')) digits.remove_prefix(1);
    while (digits.ends_with(' ')) digits.remove_suffix(1);
    if (digits.starts_with('+')) digits.remove_prefix(1);
    double value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error == std::errc::result_out_of_range) value = out_of_range(std::string(digits));
    else if (error != std::errc{}) value = std::numeric_limits<double>::quiet_NaN();
    if (end != digits.data() + digits.size() || !std::isfinite(value))
      refuse_cell(text, column, cell,
                  is_class ? "is not a finite number; where labels are texts, give label_kind = \"name\"" : "is not a finite number");
    return value;
  }

  /// What from_chars does not tell apart: infinity for what is too large, and what is nearest for what is too small.
  static double out_of_range(const std::string& digits) {
    static const locale_t with_points = newlocale(LC_ALL_MASK, "C", nullptr);
    return strtod_l(digits.c_str(), nullptr, with_points);
  }

  [[noreturn]] static void refuse_cell(const CsvText& text, const std::string& column, std::string_view cell,
                                       const char* why) {
    text.refuse("column " + shown(column) + ": " + shown(cell) + " " + why);
  }

  /// A checkpoint keeps a line for each name.
  static bool is_name(std::string_view cell) {
    return !cell.empty() && cell.find('\n') == std::string_view::npos && cell.find('\0') == std::string_view::npos;
  }

  /// Labels count the names as they come, until all are known.
  void add_name(const CsvText& text, const std::string& column, std::string_view cell) {
    if (!is_name(cell)) refuse_cell(text, column, cell, "is no name of a class: it is empty, or holds a line end or a zero byte");
    const auto [at, is_new] = label_of_.emplace(std::string(cell), names_.size());
    if (is_new && listed_) text.refuse("column " + shown(column) + ": " + unknown_name_text("class", cell, names_));
    if (is_new) names_.emplace_back(cell);
    classes_.push_back(static_cast<std::int32_t>(at->second));
  }

  /// The order of the lines must not decide which label a class has.
  void sort_names() {
    std::ranges::sort(names_);
    std::vector<std::int32_t> label(names_.size());
    for (std::size_t i = 0; i < names_.size(); ++i) label[label_of_.at(names_[i])] = static_cast<std::int32_t>(i);
    for (std::int32_t& each : classes_) each = label[static_cast<std::size_t>(each)];
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

  bool class_labels_, named_, label_, listed_;
  std::vector<std::string> names_;     // of the classes, by label
  Places label_of_;                    // of each name, while lines are read
  std::size_t width_ = 0;
  std::vector<Field> fields_;
  std::vector<float> features_, values_;
  std::vector<std::int32_t> classes_;
};

const Registered<ReaderType> reader{"csv", reader_type<CsvReader, CsvOptions>()};

}  // namespace
}  // namespace cohort
