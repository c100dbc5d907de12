#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/disk_file.hpp"
#include "cohort/tensor/tensor.hpp"

namespace cohort::hdf5 {

/// What an attribute may hold.
using Attribute = std::variant<std::int64_t, double, std::uint32_t, std::string>;

struct DatasetInfo {
  DType dtype;      ///< the smallest element type here that holds every value of the stored one; bool as h5py stores it
  Shape shape;
};

/// Elements of a data set, in row-major order from `begin` on, that lie in another file: there they are a data set of the same
/// name with one dimension of `n`.
struct Source {
  std::string file;                     ///< a name without a folder is one beside the file that names it
  std::int64_t begin = 0, n = 0;
};

/// One HDF5 file and the data sets in it, each named by its full path ("/parameters/hidden/weights"; the first slash may be
/// left out). Data sets are contiguous and little-endian, and the file's own structure carries checksums (HDF5 format 1.8
/// and later), so that damage to it is noticed; the contents are left to whoever writes them. Half-precision elements are stored
/// as 16-bit floats, which h5dump and h5py read.
///
/// Errors name the file and the data set: `not_found` for what is not there, `data_loss` for what is damaged,
/// `invalid_argument` for a wrong shape. Thread-safe, one call at a time: the library has one lock.
class File {
 public:
  [[nodiscard]] static File open(const std::filesystem::path& path);     ///< to read
  /// To write; an old file of that name is lost. `progress` as of DiskFile.
  [[nodiscard]] static File create(const std::filesystem::path& path, DiskProgress* progress = nullptr);
  File(File&&) noexcept;
  File& operator=(File&&) noexcept;
  ~File();                             ///< a file that is being written, and was not closed by `close`, is of no use afterwards

  /// Writes everything out to the disk and closes. Error data_loss, as on a full disk: whatever was not written before, in
  /// any call, shows here at the latest. Nothing may be called after it. `append` may write behind HDF5's end of the file.
  void close(const std::function<void(DiskFile&)>& append = {});
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  /// Creates data set and groups on the way. `data` holds shape.elements() elements, row by row.
  void write(std::string_view dataset, DType dtype, const Shape& shape, const void* data);
  void write(std::string_view dataset, const Tensor& host_tensor);       ///< any leading dimension; host memory
  void write_text(std::string_view dataset, std::string_view text);      ///< a string of any length, UTF-8

  /// A virtual data set: to a reader of HDF5 like any other, but its elements stay where they are. `sources` must not overlap, and
  /// with one dimension at least hold every element.
  void write_virtual(std::string_view dataset, DType dtype, const Shape& shape, std::span<const Source> sources);

  /// Its elements lie in a raw file beside (external storage), or a link on its path leads into another HDF5 file.
  [[nodiscard]] bool is_external(std::string_view dataset) const;
  [[nodiscard]] bool is_virtual(std::string_view dataset) const;
  /// Error not_found or data_loss, naming the file, if elements were never written and have no fill value of their own, or
  /// if they lie in other files (virtual data sets, external storage) and not all of those are there and large enough.
  /// Everything that reads elements looks, too.
  void require_complete(std::string_view dataset) const;
  /// What its elements take on the disk, in all files: compressed where they are. Errors as above.
  [[nodiscard]] std::uint64_t stored_bytes(std::string_view dataset) const;
  [[nodiscard]] bool has(std::string_view object) const;                 ///< data set or group
  [[nodiscard]] DatasetInfo info(std::string_view dataset) const;
  /// All data sets below `group`, by full path, sorted.
  [[nodiscard]] std::vector<std::string> datasets(std::string_view group = "/") const;

  /// Reads the whole data set, converted to `dtype`; its shape must be `shape`. Error data_loss, naming the element, for a
  /// value that `dtype` cannot hold; numbers are rounded to floats, and NaN and infinity stay among floats.
  void read(std::string_view dataset, DType dtype, const Shape& shape, void* out) const;
  void read(std::string_view dataset, const Tensor& host_tensor) const;
  /// Reads rows (entries of the first dimension) `rows[0]`, `rows[1]`, … into `out`, dense, in that order, converted to
  /// `dtype` as above. Error out_of_range.
  void read_rows(std::string_view dataset, DType dtype, std::span<const std::uint32_t> rows, void* out) const;
  [[nodiscard]] std::string read_text(std::string_view dataset) const;
  /// Of the elements as they are stored, in row-major order; takes memory for a MiB of them, and tells `progress` of each.
  [[nodiscard]] std::uint32_t crc32c(std::string_view dataset, DiskProgress* progress = nullptr) const;

  /// Attributes of a data set or group ("/" is the root). `set_attribute` replaces.
  void set_attribute(std::string_view object, std::string_view name, const Attribute& value);
  [[nodiscard]] bool has_attribute(std::string_view object, std::string_view name) const;
  /// T is one of Attribute's alternatives; numbers are converted within their kind (whole or floating). Error data_loss if
  /// the attribute is of another kind.
  template <class T>
  [[nodiscard]] T attribute(std::string_view object, std::string_view name) const;

 private:
  struct Impl;
  explicit File(std::unique_ptr<Impl> impl, std::string path);
  [[nodiscard]] std::string at(std::string_view object) const;           ///< "weights.h5: '/parameters/w'"

  std::unique_ptr<Impl> impl_;
  std::string path_;
};

template <>
std::int64_t File::attribute(std::string_view object, std::string_view name) const;
template <>
double File::attribute(std::string_view object, std::string_view name) const;
template <>
std::uint32_t File::attribute(std::string_view object, std::string_view name) const;
template <>
std::string File::attribute(std::string_view object, std::string_view name) const;

}  // namespace cohort::hdf5
