#include "hdf5/sources.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include "cohort/base/error.hpp"
#include "hdf5/types.hpp"

namespace cohort::hdf5 {
namespace {

namespace fs = std::filesystem;

constexpr int kDeepest = 16;                            // virtual data sets of virtual data sets; more is a circle

/// The places in which HDF5 looks for the source file `name` of a virtual data set in the file `path`, in its order.
/// `prefixes`: what HDF5_VDS_PREFIX says, with the file's folder for "${ORIGIN}", as HDF5 tells it of the data set.
std::vector<fs::path> places_of(const std::string& name, const fs::path& path, const std::string& prefixes) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : ".";
  std::vector<fs::path> places;
  std::string relative = name;
  if (name.starts_with('/')) {
    places.emplace_back(name);
    relative = fs::path(name).filename().string();
  }
  for (std::size_t begin = 0, end = 0; begin < prefixes.size(); begin = end + 1) {
    end = std::min(prefixes.find(':', begin), prefixes.size());
    if (end > begin) places.push_back(fs::path(prefixes.substr(begin, end - begin)) / relative);
  }
  if (!prefixes.empty()) places.push_back(fs::path(prefixes) / relative);
  places.push_back(folder / relative);
  places.emplace_back(relative);
  std::error_code error;
  if (const fs::path real = fs::canonical(path, error); !error) places.push_back(real.parent_path() / relative);
  return places;
}

Handle try_file(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return {};
  const Handle access = own(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "HDF5 file access");
  check(H5Pset_file_locking(access.get(), false, true), "HDF5 file access");
  return {H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose};
}

/// A name with a number for each "%b", and "%%" as "%".
std::string numbered(const std::string& pattern, std::int64_t number) {
  std::string name;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%' || i + 1 == pattern.size()) name += pattern[i];
    else if (pattern[++i] == 'b') name += std::to_string(number);
    else name += pattern[i];
  }
  return name;
}

bool has_number(const std::string& pattern) { return numbered(pattern, 0) != numbered(pattern, 1); }

/// One mapping of a virtual data set, as stored.
struct Mapping {
  std::string file, dataset;             // patterns
  Handle part, source;                   // selections in the virtual data set and in its source
  hid_t type;                            // of the virtual data set
  std::string prefixes;                  // of its sources' files
};

/// HDF5 would cut off what one type cannot hold of the other.
bool can_show(hid_t outer, hid_t inner) {
  const auto is_number = [](hid_t type) { return H5Tget_class(type) == H5T_INTEGER || H5Tget_class(type) == H5T_FLOAT; };
  if (!is_number(outer) || !is_number(inner)) return H5Tget_class(outer) == H5Tget_class(inner);
  return holds_all_of(outer, inner);
}

/// A text by the call that first says how long it is.
template <class Get>
std::string text_of(const std::string& where, Get get) {
  const ssize_t bytes = get(nullptr, 0);
  if (bytes < 0) fail(Code::data_loss, where + ": cannot read what it consists of");
  std::string text(static_cast<std::size_t>(bytes) + 1, '\0');
  get(text.data(), text.size());
  text.pop_back();
  return text;
}

/// Π dims, as a number that a damaged file cannot bring to overflow.
double elements_of(hid_t space, const std::string& where) {
  std::array<hsize_t, H5S_MAX_RANK> dims{};
  const int rank = check(H5Sget_simple_extent_dims(space, dims.data(), nullptr), where + ": cannot read its shape");
  double elements = 1;
  for (std::size_t d = 0; d < static_cast<std::size_t>(rank); ++d) elements *= static_cast<double>(dims[d]);
  return elements;
}

/// How many chunks hold all elements.
double chunks_of(hid_t creation, hid_t space, const std::string& where) {
  std::array<hsize_t, H5S_MAX_RANK> dims{}, chunk{};
  const int rank = check(H5Sget_simple_extent_dims(space, dims.data(), nullptr), where + ": cannot read its shape");
  check(H5Pget_chunk(creation, rank, chunk.data()), where + ": cannot read the size of its chunks");
  double chunks = 1;
  for (std::size_t d = 0; d < static_cast<std::size_t>(rank); ++d) {
    chunks *= std::ceil(static_cast<double>(dims[d]) / static_cast<double>(chunk[d]));
  }
  return chunks;
}

std::string whole(double number) { return fmt::format("{:.0f}", number); }

class Search {
 public:
  Search(const std::string& top, Sources& found) : top_(top), found_(found) {}

  void dataset(hid_t dataset, const std::string& path, const std::string& where, int depth) {
    check(depth < kDeepest, Code::data_loss, where + ": is a virtual data set of itself");
    const Handle creation = own(H5Dget_create_plist(dataset), H5Pclose, where);
    external(creation.get(), dataset, where);
    if (H5Pget_layout(creation.get()) == H5D_VIRTUAL) mappings(creation.get(), dataset, path, where, depth);
    else require_written(creation.get(), dataset, path, where);
  }

 private:
  /// Are all elements there that the data set says it has? HDF5 takes those that were never written for zeros, and a file of
  /// a few bytes may claim any number of them. What is compressed counts as it is stored.
  void require_written(hid_t creation, hid_t dataset, const std::string& path, const std::string& where) {
    const Handle type = own(H5Dget_type(dataset), H5Tclose, where), space = own(H5Dget_space(dataset), H5Sclose, where);
    const double elements = elements_of(space.get(), where), bytes = elements * static_cast<double>(H5Tget_size(type.get()));
    const H5D_layout_t layout = H5Pget_layout(creation);
    if (elements == 0) return;
    if (layout == H5D_COMPACT || H5Pget_external_count(creation) > 0) {      // in the header; or has been looked at
      count(dataset, path, static_cast<std::uint64_t>(bytes), where);
      return;
    }
    const Handle file = own(H5Iget_file_id(dataset), H5Fclose, where);
    hsize_t file_bytes = 0;
    check(H5Fget_filesize(file.get(), &file_bytes), where + ": cannot read the file's size");
    const bool plain = H5Pget_nfilters(creation) == 0, fills = fills_gaps(creation, where);
    if (plain && !fills && bytes > static_cast<double>(file_bytes)) {
      fail(Code::data_loss, where + ": says that it has " + whole(elements) + " elements, " + whole(bytes) +
                                " bytes, but its file has " + std::to_string(file_bytes) + " in all");
    }
    const hsize_t stored = H5Dget_storage_size(dataset);
    if (!fills && stored == 0) {
      fail(Code::data_loss, where + ": none of its " + whole(elements) + " elements was ever written, and no fill value is given");
    }
    check(stored <= file_bytes, Code::data_loss, where + ": says that it is larger than its file, which is damaged");
    if (!fills && layout == H5D_CHUNKED) require_chunks(creation, dataset, space.get(), where);
    count(dataset, path, stored, where);
  }

  /// Once, however many parts of a virtual data set are taken from it.
  void count(hid_t dataset, const std::string& path, std::uint64_t bytes, const std::string& where) {
    H5O_info_t info{};
    check(H5Oget_info2(dataset, &info, H5O_INFO_BASIC), where + ": cannot read where it lies");
    if (counted_.emplace(path, info.addr).second) found_.stored_bytes += bytes;
  }

  /// Has whoever made it said which value elements have that are not written? (Space that is taken at once is in the file.)
  static bool fills_gaps(hid_t creation, const std::string& where) {
    H5D_fill_value_t fill = H5D_FILL_VALUE_UNDEFINED;
    H5D_alloc_time_t when = H5D_ALLOC_TIME_DEFAULT;
    check(H5Pfill_value_defined(creation, &fill), where);
    check(H5Pget_alloc_time(creation, &when), where);
    return fill == H5D_FILL_VALUE_USER_DEFINED && when != H5D_ALLOC_TIME_EARLY;
  }

  static void require_chunks(hid_t creation, hid_t dataset, hid_t space, const std::string& where) {
    const double all = chunks_of(creation, space, where);
    hsize_t written = 0;
    check(H5Dget_num_chunks(dataset, space, &written), where + ": cannot count its chunks");
    if (static_cast<double>(written) >= all) return;
    fail(Code::data_loss, where + ": of its " + whole(all) + " chunks only " + std::to_string(written) +
                              " were ever written, and no fill value is given for the others");
  }

  void external(hid_t creation, hid_t dataset, const std::string& where) {
    const int files = check(H5Pget_external_count(creation), where);
    const Handle type = own(H5Dget_type(dataset), H5Tclose, where), space = own(H5Dget_space(dataset), H5Sclose, where);
    const Handle access = own(H5Dget_access_plist(dataset), H5Pclose, where);
    const std::string prefix =
        text_of(where, [&](char* to, std::size_t n) { return H5Pget_efile_prefix(access.get(), to, n); });
    const hssize_t elements = std::max<hssize_t>(H5Sget_simple_extent_npoints(space.get()), 0);
    hsize_t rest = static_cast<hsize_t>(elements) * H5Tget_size(type.get());
    for (int i = 0; i < files && rest > 0; ++i) {
      std::array<char, 4096> name{};
      off_t offset = 0;
      hsize_t bytes = 0;
      check(H5Pget_external(creation, static_cast<unsigned>(i), name.size() - 1, name.data(), &offset, &bytes), where);
      bytes = std::min(bytes, rest);                     // the last one may be without a limit
      rest -= bytes;
      const fs::path file = name[0] == '/' || prefix.empty() ? fs::path(name.data()) : fs::path(prefix) / name.data();
      std::error_code error;
      const std::uintmax_t there = fs::file_size(file, error);
      if (error) fail(Code::not_found, where + ": its elements lie in " + file.string() + ", which is not there");
      const std::uintmax_t wanted = static_cast<std::uintmax_t>(offset) + bytes;
      if (there < wanted) {
        fail(Code::data_loss, where + ": its elements lie in " + file.string() + ", which has " + std::to_string(there) +
                                  " bytes instead of " + std::to_string(wanted));
      }
      found_.files.push_back(file.string());
    }
  }

  void mappings(hid_t creation, hid_t dataset, const std::string& path, const std::string& where, int depth) {
    const Handle space = own(H5Dget_space(dataset), H5Sclose, where), type = own(H5Dget_type(dataset), H5Tclose, where);
    const hssize_t all = H5Sget_simple_extent_npoints(space.get());
    const Handle access = own(H5Dget_access_plist(dataset), H5Pclose, where);
    const std::string prefixes =
        text_of(where, [&](char* to, std::size_t n) { return H5Pget_virtual_prefix(access.get(), to, n); });
    std::size_t count = 0;
    check(H5Pget_virtual_count(creation, &count), where);
    hssize_t mapped = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const Mapping mapping{
          .file = text_of(where, [&](char* to, std::size_t n) { return H5Pget_virtual_filename(creation, i, to, n); }),
          .dataset = text_of(where, [&](char* to, std::size_t n) { return H5Pget_virtual_dsetname(creation, i, to, n); }),
          .part = own(H5Pget_virtual_vspace(creation, i), H5Sclose, where),
          .source = own(H5Pget_virtual_srcspace(creation, i), H5Sclose, where),
          .type = type.get(),
          .prefixes = prefixes};
      const hssize_t points = H5Sget_select_npoints(mapping.part.get());
      const bool unlimited = H5Sis_regular_hyperslab(mapping.part.get()) > 0 && grows(mapping.part.get());
      mapped += unlimited || points < 0 ? all : points;
      if (unlimited && (has_number(mapping.file) || has_number(mapping.dataset))) blocks(mapping, path, where, depth);
      else source(mapping, 0, path, where, depth);
    }
    H5D_fill_value_t fill = H5D_FILL_VALUE_UNDEFINED;
    check(H5Pfill_value_defined(creation, &fill), where);
    if (mapped < all && fill != H5D_FILL_VALUE_USER_DEFINED) {
      fail(Code::data_loss, where + ": is a virtual data set of " + std::to_string(all) + " elements, of which " +
                                std::to_string(mapped) + " have a source, and no fill value is given for the others");
    }
  }

  /// Does the selection have no end in one dimension?
  static bool grows(hid_t space) {
    std::array<hsize_t, H5S_MAX_RANK> start{}, stride{}, count{}, block{};
    if (H5Sget_regular_hyperslab(space, start.data(), stride.data(), count.data(), block.data()) < 0) return false;
    return std::ranges::count(count, H5S_UNLIMITED) + std::ranges::count(block, H5S_UNLIMITED) > 0;
  }

  /// Blocks 0, 1, … of a mapping with a number in a name. HDF5 takes the first that is missing for the end of the data set.
  void blocks(const Mapping& mapping, const std::string& path, const std::string& where, int depth) {
    std::int64_t next = 0;
    while (is_there(mapping, next, path)) {
      source(mapping, next, path, where, depth);
      ++next;
    }
    constexpr std::int64_t kLooked = 1000;
    for (std::int64_t later = next + 1; later <= next + kLooked; ++later) {
      if (is_there(mapping, later, path)) {
        fail(Code::not_found, where + ": of its sources " + source_text(mapping, next) + " is missing, though number " +
                                  std::to_string(later) + " is there");
      }
    }
    check(next > 0, Code::not_found, where + ": its first source " + source_text(mapping, 0) + " is missing");
  }

  static std::string source_text(const Mapping& mapping, std::int64_t number) {
    return "'" + numbered(mapping.dataset, number) + "' in " + numbered(mapping.file, number);
  }

  static bool is_there(const Mapping& mapping, std::int64_t number, const std::string& path) {
    const auto file = open(mapping, number, path);
    return file && H5Lexists(file->first.get(), numbered(mapping.dataset, number).c_str(), H5P_DEFAULT) > 0;
  }

  static std::optional<std::pair<Handle, std::string>> open(const Mapping& mapping, std::int64_t number,
                                                            const std::string& path) {
    const std::string name = numbered(mapping.file, number);
    if (name == ".") return std::pair(try_file(path), path);
    for (const fs::path& place : places_of(name, path, mapping.prefixes)) {
      Handle file = try_file(place);
      if (file.get() >= 0) return std::pair(std::move(file), place.string());
    }
    return {};
  }

  void source(const Mapping& mapping, std::int64_t number, const std::string& path, const std::string& where, int depth) {
    const std::string name = numbered(mapping.file, number), dataset_name = numbered(mapping.dataset, number);
    const auto file = open(mapping, number, path);
    if (!file) fail(Code::not_found, where + ": a part of it lies in the HDF5 file " + name + ", which is not there");
    const std::string there = file->second + ": '" + dataset_name + "'", part = where + ": a part of it, " + there;
    const hid_t in = file->first.get();
    if (H5Lexists(in, dataset_name.c_str(), H5P_DEFAULT) <= 0) fail(Code::not_found, part + ", is not there");
    const Handle dataset = own(H5Dopen2(in, dataset_name.c_str(), H5P_DEFAULT), H5Dclose, part + ": cannot open");
    fits(mapping, dataset.get(), part);
    const Handle type = own(H5Dget_type(dataset.get()), H5Tclose, part);
    check(can_show(mapping.type, type.get()), Code::data_loss, part + ", has elements of a type that it cannot show");
    if (name != ".") found_.files.push_back(file->second);
    this->dataset(dataset.get(), file->second, top_ + ", which takes from " + there, depth + 1);
  }

  /// Has the source what the mapping takes from it?
  static void fits(const Mapping& mapping, hid_t dataset, const std::string& part) {
    const hid_t selection = mapping.source.get();
    if (grows(selection)) return;
    const Handle space = own(H5Dget_space(dataset), H5Sclose, part);
    std::array<hsize_t, H5S_MAX_RANK> dims{}, first{}, last{};
    const int rank = check(H5Sget_simple_extent_dims(space.get(), dims.data(), nullptr), part + ": cannot read its shape");
    bool fit = true;
    if (H5Sget_select_type(selection) == H5S_SEL_ALL) {          // its extent is not stored
      const hssize_t points = H5Sget_select_npoints(mapping.part.get());
      fit = grows(mapping.part.get()) || points == H5Sget_simple_extent_npoints(space.get());
    } else {
      fit =
          H5Sget_simple_extent_ndims(selection) == rank && H5Sget_select_bounds(selection, first.data(), last.data()) >= 0;
      for (std::size_t d = 0; fit && d < static_cast<std::size_t>(rank); ++d) fit = last[d] < dims[d];
    }
    check(fit, Code::data_loss, part + ", does not have the shape that it is taken to have");
  }

  const std::string& top_;
  Sources& found_;
  std::set<std::pair<std::string, haddr_t>> counted_;
};

}  // namespace

Sources require_sources(hid_t dataset, const std::string& path, const std::string& where) {
  Sources found;
  Search(where, found).dataset(dataset, path, where, 0);
  std::ranges::sort(found.files);
  found.files.erase(std::unique(found.files.begin(), found.files.end()), found.files.end());
  return found;
}

}  // namespace cohort::hdf5
