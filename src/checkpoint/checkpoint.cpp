#include "cohort/checkpoint/checkpoint.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "checkpoint/checkpoint_file.hpp"
#include "checkpoint/checkpoint_folder.hpp"
#include "checkpoint/checkpoint_reader.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;

/// The file that a path means: itself, or what `latest`, `best` or another link points at.
fs::path resolve(const fs::path& path) {
  std::error_code error;
  const bool folder = fs::is_directory(path, error);
  const fs::path named = folder ? path / kLatest : path, around = named.has_parent_path() ? named.parent_path() : ".";
  if (named.filename() == kLatest) return find_latest(around).value_or(named);
  if (named.filename() == kBest) return checkpoint_of(around, kBest).value_or(named);
  return fs::is_symlink(named, error) ? around / fs::read_symlink(named, error) : named;
}

/// Runs `use` on the file that `path` means. If it turns out to be damaged or not there, the error also names what could be
/// had in its place.
template <class Use>
auto with_alternative(const fs::path& path, Use use) {
  const fs::path file = resolve(path);
  try {
    return use(file);
  } catch (const Error& error) {
    if (error.code() != Code::data_loss && error.code() != Code::not_found) throw;
    std::string text = error.what();
    auto others = list_checkpoints(file.has_parent_path() ? file.parent_path() : ".");
    std::erase_if(others, [&](const fs::path& other) { return other.filename() == file.filename(); });
    const auto intact = std::ranges::find_if(others, is_intact_checkpoint);
    if (intact != others.end()) text += "; an intact checkpoint is " + intact->string();
    else text += "; there is no other intact checkpoint beside it";
    throw Error(error.code(), text, error.where());
  }
}

std::string what_is_asked(const StateItem& item) {
  if (const auto* tensor = std::get_if<Tensor>(&item)) return std::string(name(tensor->dtype())) + tensor->shape().text();
  if (std::holds_alternative<std::string>(item)) return "text";
  return std::holds_alternative<std::int64_t>(item) ? "int64 value" : "float64 value";
}

/// What the state wants of one data set.
struct Wish {
  std::string what;
  std::optional<FlatRange> piece{};      // nothing: the whole
  bool needed = true;                    // false: the file may lack it
};
using WishList = std::map<std::string, Wish>;   // by data set

/// First reading: what the state wants, changing nothing.
class Wishes final : public StateReader {
 public:
  void tensor(const std::string& name, const Tensor& value) override { add(name, {what_is_asked(value)}); }
  void piece(const std::string& name, const Shape& whole, std::int64_t begin, const Tensor& values) override {
    add(name, {"float32" + whole.text(), FlatRange{begin, values.elements()}});
  }
  void value(const std::string& name, std::int64_t& value) override { add(name, {what_is_asked(value)}); }
  void value(const std::string& name, double& value) override { add(name, {what_is_asked(value)}); }
  void added_value(const std::string& name, std::int64_t& value) override {
    add(name, {.what = what_is_asked(value), .needed = false});
  }
  void text(const std::string& name, std::string& value) override { add(name, {what_is_asked(value)}); }
  [[nodiscard]] const WishList& all() const noexcept { return wishes_; }

 private:
  void add(const std::string& name, Wish wish) {
    check(wishes_.emplace("/" + name, std::move(wish)).second, Code::internal, "checkpoint: '" + name + "' is there twice");
  }
  WishList wishes_;
};

/// Second reading: everything is there and right.
class Loader final : public StateReader {
 public:
  explicit Loader(const std::map<std::string, StateItem>& items) : items_(items) {}
  void tensor(const std::string& name, const Tensor& value) override { value.copy_from(get<Tensor>(name)); }
  void piece(const std::string& name, const Shape&, std::int64_t, const Tensor& values) override { values.copy_from(get<Tensor>(name)); }
  void value(const std::string& name, std::int64_t& value) override { value = get<std::int64_t>(name); }
  void value(const std::string& name, double& value) override { value = get<double>(name); }
  void added_value(const std::string& name, std::int64_t& value) override {
    if (items_.contains("/" + name)) value = get<std::int64_t>(name);
  }
  void text(const std::string& name, std::string& value) override { value = get<std::string>(name); }

 private:
  template <class T>
  [[nodiscard]] const T& get(const std::string& name) const {
    return std::get<T>(items_.at("/" + name));
  }
  const std::map<std::string, StateItem>& items_;
};

/// "; missing: a b c and 7 more"
std::string listed(const std::string& what, const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 8;
  std::string text = names.empty() ? "" : "; " + what + ":";
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i) text += " " + names[i];
  if (names.size() > kShown) text += " and " + std::to_string(names.size() - kShown) + " more";
  return text;
}

void require_fit(const CheckpointReader& file, const WishList& wishes, Extra extra) {
  std::vector<std::string> missing, different, unasked;
  const std::vector<std::string> names = file.names();
  for (const auto& [name, wish] : wishes) {
    if (!std::binary_search(names.begin(), names.end(), name)) {
      if (wish.needed) missing.push_back(name);
    } else if (const std::string stored = file.what(name); stored != wish.what) {
      different.push_back(name + " (" + stored + " in the file, " + wish.what + " here)");
    }
  }
  for (const auto& name : names) {
    if (extra == Extra::refuse && !wishes.contains(name)) unasked.push_back(name);
  }
  if (missing.empty() && different.empty() && unasked.empty()) return;
  fail(Code::failed_precondition, file.header().path.string() + ": is not of this model and optimizer" +
                                      listed("missing in the file", missing) + listed("only in the file", unasked) +
                                      listed("different", different));
}

}  // namespace

CheckpointHeader load_checkpoint(const fs::path& path, std::span<Stateful* const> parts, Extra extra) {
  return with_alternative(path, [&](const fs::path& resolved) {
    const CheckpointReader file(resolved);
    Wishes wishes;
    for (Stateful* part : parts) part->load(wishes);
    require_fit(file, wishes.all(), extra);
    std::map<std::string, StateItem> items;
    for (const auto& [name, wish] : wishes.all()) {
      if (wish.needed || file.has(name)) items.emplace(name, file.intact(name, wish.piece));
    }
    Loader loader(items);
    for (Stateful* part : parts) part->load(loader);
    return file.header();
  });
}

namespace {

void add_statistics(const Tensor& tensor, CheckpointEntry& entry) {
  dispatch(tensor.dtype(), [&]<class T>() {
    double sum = 0, squares = 0;
    std::int64_t n = 0;
    for (const T& element : std::span(tensor.data<T>(), static_cast<std::size_t>(tensor.elements()))) {
      double x = 0;
      if constexpr (sizeof(T) == 2) x = static_cast<double>(static_cast<float>(element));   // 16-bit floats
      else x = static_cast<double>(element);
      if (!std::isfinite(x)) {
        ++entry.not_finite;
        continue;
      }
      entry.least = n == 0 ? x : std::min(entry.least, x);
      entry.most = n == 0 ? x : std::max(entry.most, x);
      sum += x;
      squares += x * x;
      ++n;
    }
    entry.mean = n == 0 ? 0 : sum / static_cast<double>(n);
    entry.norm = std::sqrt(squares);
  });
}

CheckpointEntry describe(const CheckpointReader& file, const std::string& name) {
  CheckpointEntry entry;
  entry.name = name.substr(1);
  entry.kind = file.kind(name);
  const auto [item, damage] = file.read(name);
  entry.intact = damage.empty();
  if (const auto* tensor = std::get_if<Tensor>(&item)) {
    entry.dtype = tensor->dtype();
    entry.shape = tensor->shape();
    add_statistics(*tensor, entry);
  } else if (const auto* text = std::get_if<std::string>(&item)) {
    entry.text = *text;
  } else if (const auto* whole = std::get_if<std::int64_t>(&item)) {
    entry.dtype = DType::int64;
    entry.text = std::to_string(*whole);
  } else {
    entry.dtype = DType::float64;
    entry.text = fmt::format("{}", std::get<double>(item));
  }
  return entry;
}

std::string table_line(const CheckpointEntry& entry, std::size_t name_width) {
  std::string line = fmt::format("  {:<{}}  ", entry.name, name_width);
  if (entry.kind == "tensor") {
    const std::string type = std::string(name(entry.dtype)) + entry.shape.text();
    line += fmt::format("{:<24} {:>12.5g} {:>12.5g} {:>12.5g} {:>12.5g}", type, entry.least, entry.most, entry.mean,
                        entry.norm);
    if (entry.not_finite > 0) line += fmt::format("  {} NOT FINITE", entry.not_finite);
  } else {
    for (const char c : entry.text) line += c == '\n' ? std::string("; ") : std::string{c};
  }
  return line + (entry.intact ? "\n" : "  DAMAGED\n");
}

}  // namespace

CheckpointDescription describe_checkpoint(const fs::path& path) {
  return with_alternative(path, [&](const fs::path& resolved) {
    const CheckpointReader file(resolved);
    CheckpointDescription result{.header = file.header(), .entries = {}};
    for (const auto& name : file.names()) result.entries.push_back(describe(file, name));
    return result;
  });
}

bool CheckpointDescription::intact() const {
  return std::all_of(entries.begin(), entries.end(), [](const CheckpointEntry& entry) { return entry.intact; });
}

std::string CheckpointDescription::text() const {
  std::size_t width = 4;
  for (const auto& entry : entries) width = std::max(width, entry.name.size());
  std::string result = fmt::format("{}\nstep {}, {} data sets{}, {}\n\n", header.path.string(), header.step, entries.size(),
                                   header.files > 1 ? fmt::format(" in {} files", header.files) : "", intact() ? "all intact" : "DAMAGED");
  result += fmt::format("  {:<{}}  {:<24} {:>12} {:>12} {:>12} {:>12}\n", "name", width, "type", "min", "max", "mean",
                        "norm");
  for (const auto& entry : entries) result += table_line(entry, width);
  return result + "\nconfiguration\n\n" + header.configuration;
}

}  // namespace cohort
