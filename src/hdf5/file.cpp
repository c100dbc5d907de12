#include "hdf5/file.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <mutex>
#include <system_error>

#include "cohort/base/crc32c.hpp"
#include "cohort/base/error.hpp"
#include "hdf5/blocks.hpp"
#include "hdf5/conversion.hpp"
#include "hdf5/disk_driver.hpp"
#include "hdf5/read_count.hpp"
#include "hdf5/sources.hpp"
#include "hdf5/types.hpp"

namespace cohort::hdf5 {
namespace {

std::string absolute(std::string_view name) { return name.starts_with('/') ? std::string(name) : "/" + std::string(name); }

Handle space_of(const Shape& shape) {
  std::array<hsize_t, Shape::kMaxRank> dims{};
  std::copy(shape.begin(), shape.end(), dims.begin());
  return shape.rank() == 0
             ? own(H5Screate(H5S_SCALAR), H5Sclose, "HDF5 data space")
             : own(H5Screate_simple(static_cast<int>(shape.rank()), dims.data(), nullptr), H5Sclose, "HDF5 data space");
}

/// A tensor's memory as HDF5 sees it: rows of ld elements, of which the first `columns` count.
Handle memory_space(const Tensor& tensor) {
  if (tensor.dense()) return space_of({tensor.elements()});
  Handle space = space_of({tensor.rows(), tensor.ld()});
  const hsize_t start[2] = {0, 0}, count[2] = {static_cast<hsize_t>(tensor.rows()), static_cast<hsize_t>(tensor.columns())};
  check(H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start, nullptr, count, nullptr), "HDF5 row selection");
  return space;
}

void select(hid_t space, const Block& block, const std::string& where) {
  std::array<hsize_t, Shape::kMaxRank> start{}, count{};
  std::copy(block.start.begin(), block.start.end(), start.begin());
  std::copy(block.count.begin(), block.count.end(), count.begin());
  check(H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr), where);
}

void require_host(const Tensor& tensor, const std::string& where) {
  check(!tensor.empty() && tensor.device().info().host_accessible && tensor.layout() == Layout::plain, Code::internal,
        where + ": only plain host tensors can be stored");
}

/// The shape of a stored data set, with the bounds that a damaged file may break.
Shape stored_shape(hid_t space, const std::string& where) {
  const int rank = check(H5Sget_simple_extent_ndims(space), where + ": cannot read its shape");
  if (rank > static_cast<int>(Shape::kMaxRank)) {
    fail(Code::data_loss, where + ": has " + std::to_string(rank) + " dimensions, at most 8 are possible here");
  }
  std::array<hsize_t, Shape::kMaxRank> dims{};
  check(H5Sget_simple_extent_dims(space, dims.data(), nullptr), where + ": cannot read its shape");
  Shape shape;
  std::int64_t elements = 1;
  for (int i = 0; i < rank; ++i) {
    const hsize_t dim = dims[static_cast<std::size_t>(i)];
    const auto most =
        static_cast<hsize_t>(std::numeric_limits<std::int64_t>::max() / 16 / std::max<std::int64_t>(elements, 1));
    if (dim > most) fail(Code::data_loss, where + ": has an impossible size, the file is damaged");
    shape.append(static_cast<std::int64_t>(dim));
    elements *= static_cast<std::int64_t>(dim);
  }
  return shape;
}

/// A string of fixed or variable length, by whichever call reads this object.
template <class Read>
std::string stored_text(hid_t type, const std::string& where, Read read) {
  if (H5Tget_class(type) != H5T_STRING) fail(Code::data_loss, where + ": is not a text");
  if (H5Tis_variable_str(type) > 0) {
    char* text = nullptr;
    check(read(type, &text), where + ": cannot read");
    std::string result = text == nullptr ? "" : text;
    if (text != nullptr) H5free_memory(text);
    return result;
  }
  std::string text(H5Tget_size(type), '\0');
  check(read(type, text.data()), where + ": cannot read");
  text.resize(std::min(text.find('\0'), text.size()));
  return text;
}

herr_t collect_dataset(hid_t, const char* name, const H5O_info_t* info, void* names) {
  if (info->type == H5O_TYPE_DATASET) static_cast<std::vector<std::string>*>(names)->emplace_back(name);
  return 0;
}

/// Names of sources are patterns, in which "%b" is a number.
std::string no_pattern(const std::string& name) {
  std::string result;
  for (const char c : name) result += c == '%' ? "%%" : std::string(1, c);
  return result;
}

bool link_exists(hid_t file, const std::string& path) {
  // H5Lexists wants every group on the way to exist.
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (part.size() > 1 && H5Lexists(file, part.c_str(), H5P_DEFAULT) <= 0) return false;
    if (end == std::string::npos) return true;
  }
}

}  // namespace

struct File::Impl {
  Handle file;
  std::shared_ptr<DiskFile> disk{};      // where it goes; null: it is open to read
  std::string file_name{};
  mutable std::mutex mutex{};
  mutable std::map<std::string, Sources> sources{};   // by data set: where its elements lie

  ~Impl() {
    if (disk != nullptr) disk->abandon();   // closed without `close`, it is of no use
  }
  void require_written() const { disk->require_intact(); }

  [[nodiscard]] Handle open_object(const std::string& path, const std::string& where) const {
    quiet();
    if (!link_exists(file.get(), path)) fail(Code::not_found, where + ": not in the file");
    return own(H5Oopen(file.get(), path.c_str(), H5P_DEFAULT), H5Oclose, where + ": cannot open");
  }
  [[nodiscard]] Handle open_dataset(const std::string& path, const std::string& where) const {
    quiet();
    if (!link_exists(file.get(), path)) fail(Code::not_found, where + ": no such data set");
    return own(H5Dopen2(file.get(), path.c_str(), H5P_DEFAULT), H5Dclose, where + ": cannot open the data set");
  }
  /// To read its elements: all of them are there, be it in other files. That is looked at when it is opened first; later,
  /// whether those files still exist.
  [[nodiscard]] Handle open_complete(const std::string& path, const std::string& where) const {
    Handle dataset = open_dataset(path, where);
    const std::lock_guard lock(mutex);
    const auto known = sources.find(path);
    if (known == sources.end()) {
      sources.emplace(path, require_sources(dataset.get(), file_name, where));
      return dataset;
    }
    for (const std::string& source : known->second.files) {
      if (!std::filesystem::exists(source))
        fail(Code::not_found, where + ": a part of it lies in " + source + ", which is gone");
    }
    return dataset;
  }
  [[nodiscard]] Handle create_dataset(const std::string& path, const std::string& where, hid_t type, hid_t space) const {
    quiet();
    const Handle creation = own(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, where);
    check(H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER), where);
    return create_dataset(path, where, type, space, creation.get());
  }
  [[nodiscard]] Handle create_dataset(const std::string& path, const std::string& where, hid_t type, hid_t space, hid_t creation) const {
    const Handle links = own(H5Pcreate(H5P_LINK_CREATE), H5Pclose, where);
    check(H5Pset_create_intermediate_group(links.get(), 1), where);
    return own(H5Dcreate2(file.get(), path.c_str(), type, space, links.get(), creation, H5P_DEFAULT), H5Dclose,
               where + ": cannot create the data set");
  }
  [[nodiscard]] Handle open_attribute(const std::string& path, std::string_view name, const std::string& where) const {
    const Handle object = open_object(path, where);
    const std::string key(name);
    if (H5Aexists(object.get(), key.c_str()) <= 0) fail(Code::not_found, where + ": has no attribute '" + key + "'");
    return own(H5Aopen(object.get(), key.c_str(), H5P_DEFAULT), H5Aclose, where + ": cannot open attribute '" + key + "'");
  }
  template <class T>
  [[nodiscard]] T number(const std::string& path, std::string_view name, const std::string& where, H5T_class_t kind,
                         hid_t type) const {
    const Handle attribute = open_attribute(path, name, where);
    const std::string what = where + ": attribute '" + std::string(name) + "'";
    const Handle stored = own(H5Aget_type(attribute.get()), H5Tclose, what);
    const Handle space = own(H5Aget_space(attribute.get()), H5Sclose, what);
    if (H5Tget_class(stored.get()) != kind || H5Sget_simple_extent_npoints(space.get()) != 1) {
      fail(Code::data_loss, what + ": is not one " + (kind == H5T_FLOAT ? "floating-point" : "whole") + " number");
    }
    T value{};
    check(H5Aread(attribute.get(), type, &value), what + ": cannot read");
    return value;
  }
};

File::File(std::unique_ptr<Impl> impl, std::string path) : impl_(std::move(impl)), path_(std::move(path)) {}
File::File(File&&) noexcept = default;
File& File::operator=(File&&) noexcept = default;
File::~File() = default;

std::string File::at(std::string_view object) const { return path_ + ": '" + absolute(object) + "'"; }

File File::open(const std::filesystem::path& path) {
  quiet();
  std::error_code error;
  const std::string name = path.string();
  if (!std::filesystem::is_regular_file(path, error)) fail(Code::not_found, name + ": no such file");
  const Handle access = own(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, name);
  check(H5Pset_file_locking(access.get(), false, true), name);   // parallel file systems often have no locks to give
  auto impl = std::make_unique<Impl>();
  impl->file_name = name;
  impl->file =
      own(H5Fopen(name.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose, name + ": not an HDF5 file that can be read");
  ReadCount::add_open(name);
  return File(std::move(impl), name);
}

File File::create(const std::filesystem::path& path, DiskProgress* progress) {
  quiet();
  const std::string name = path.string();
  const Handle access = own(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, name);
  check(H5Pset_file_locking(access.get(), false, true), name);
  check(H5Pset_libver_bounds(access.get(), H5F_LIBVER_V18, H5F_LIBVER_LATEST), name);   // structure with checksums
  auto impl = std::make_unique<Impl>();
  impl->disk = std::make_shared<DiskFile>(path, progress);
  write_to(access.get(), impl->disk);
  impl->file = own(H5Fcreate(name.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get()), H5Fclose, name + ": cannot create");
  return File(std::move(impl), name);
}

void File::close(const std::function<void(DiskFile&)>& append) {
  quiet();
  check(H5Fclose(impl_->file.release()), path_ + ": cannot close the file");
  if (impl_->disk == nullptr) return;
  if (append) append(*impl_->disk);
  impl_->disk->close();
}

void File::write(std::string_view dataset, DType dtype, const Shape& shape, const void* data) {
  write(dataset, Tensor(host(), dtype, shape, const_cast<void*>(data)));
}

void File::write(std::string_view dataset, const Tensor& host_tensor) {
  quiet();
  const std::string where = at(dataset);
  require_host(host_tensor, where);
  const Handle type = type_of(host_tensor.dtype());
  const Handle space = space_of(host_tensor.shape());
  const Handle target = impl_->create_dataset(absolute(dataset), where, type.get(), space.get());
  if (host_tensor.elements() == 0) return;
  const Handle memory = memory_space(host_tensor);
  check(H5Dwrite(target.get(), type.get(), memory.get(), H5S_ALL, H5P_DEFAULT, host_tensor.raw()), where + ": cannot write");
  impl_->require_written();
}

void File::write_text(std::string_view dataset, std::string_view text) {
  quiet();
  const std::string where = at(dataset), copy(text);
  const Handle type = text_type(text.size());
  const Handle space = space_of({});
  const Handle target = impl_->create_dataset(absolute(dataset), where, type.get(), space.get());
  check(H5Dwrite(target.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, copy.c_str()), where + ": cannot write");
  impl_->require_written();
}

void File::write_virtual(std::string_view dataset, DType dtype, const Shape& shape, std::span<const Source> sources) {
  quiet();
  const std::string where = at(dataset), there = no_pattern(absolute(dataset));
  const Handle type = type_of(dtype), space = space_of(shape), part = space_of(shape);
  const Handle creation = own(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, where);
  for (const Source& source : sources) {
    if (source.n == 0) continue;
    const Handle from = space_of({source.n});
    const std::string file = no_pattern(source.file);
    const auto map = [&] {
      check(H5Pset_virtual(creation.get(), part.get(), file.c_str(), there.c_str(), from.get()), where + ": cannot map a part of it");
    };
    if (shape.rank() == 0) map();
    hsize_t at_source = 0;
    for_each_block(shape, source.begin, source.begin + source.n, [&](const Block& block) {
      const auto n = static_cast<hsize_t>(block.elements);
      select(part.get(), block, where);
      check(H5Sselect_hyperslab(from.get(), H5S_SELECT_SET, &at_source, nullptr, &n, nullptr), where);
      map();
      at_source += n;
    });
  }
  static_cast<void>(impl_->create_dataset(absolute(dataset), where, type.get(), space.get(), creation.get()));
  impl_->require_written();
}

bool File::is_external(std::string_view dataset) const {
  quiet();
  const std::string path = absolute(dataset), where = at(dataset);
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    H5L_info_t link{};
    const std::string part = path.substr(0, end);
    if (part.size() > 1 && H5Lget_info(impl_->file.get(), part.c_str(), &link, H5P_DEFAULT) >= 0 && link.type == H5L_TYPE_EXTERNAL) return true;
    if (end == std::string::npos) break;
  }
  const Handle source = impl_->open_dataset(path, where);
  const Handle creation = own(H5Dget_create_plist(source.get()), H5Pclose, where);
  return check(H5Pget_external_count(creation.get()), where) > 0;
}

bool File::is_virtual(std::string_view dataset) const {
  const std::string where = at(dataset);
  const Handle source = impl_->open_dataset(absolute(dataset), where);
  const Handle creation = own(H5Dget_create_plist(source.get()), H5Pclose, where);
  return H5Pget_layout(creation.get()) == H5D_VIRTUAL;
}

void File::require_complete(std::string_view dataset) const {
  static_cast<void>(impl_->open_complete(absolute(dataset), at(dataset)));
}

std::uint64_t File::stored_bytes(std::string_view dataset) const {
  require_complete(dataset);
  const std::lock_guard lock(impl_->mutex);
  return impl_->sources.at(absolute(dataset)).stored_bytes;
}

bool File::has(std::string_view object) const {
  quiet();
  return link_exists(impl_->file.get(), absolute(object));
}

DatasetInfo File::info(std::string_view dataset) const {
  const std::string where = at(dataset);
  const Handle source = impl_->open_dataset(absolute(dataset), where);
  const Handle type = own(H5Dget_type(source.get()), H5Tclose, where);
  const Handle space = own(H5Dget_space(source.get()), H5Sclose, where);
  return {dtype_of_stored(type.get(), where), stored_shape(space.get(), where)};
}

std::vector<std::string> File::datasets(std::string_view group) const {
  const std::string where = at(group), root = absolute(group);
  const Handle start = impl_->open_object(root, where);
  std::vector<std::string> names;
  check(H5Ovisit2(start.get(), H5_INDEX_NAME, H5_ITER_INC, collect_dataset, &names, H5O_INFO_BASIC),
        where + ": cannot list");
  for (std::string& name : names) name = name == "." ? root : (root == "/" ? root : root + "/") + name;
  std::sort(names.begin(), names.end());
  return names;
}

void File::read(std::string_view dataset, DType dtype, const Shape& shape, void* out) const {
  read(dataset, Tensor(host(), dtype, shape, out));
}

void File::read(std::string_view dataset, const Tensor& host_tensor) const {
  const std::string where = at(dataset);
  require_host(host_tensor, where);
  const Handle source = impl_->open_complete(absolute(dataset), where);
  const Handle space = own(H5Dget_space(source.get()), H5Sclose, where);
  const Shape shape = stored_shape(space.get(), where);
  if (shape != host_tensor.shape()) {
    fail(Code::invalid_argument, where + ": has shape " + shape.text() + ", asked for as " + host_tensor.shape().text());
  }
  if (host_tensor.elements() == 0) return;
  ReadCount::add_bytes(H5Dget_storage_size(source.get()));
  const Handle memory = memory_space(host_tensor);
  const bool dense = host_tensor.dense();
  const Destination to{.out = host_tensor.raw(), .dtype = host_tensor.dtype(), .elements = shape.elements(),
                       .columns = dense ? shape.elements() : host_tensor.columns(),
                       .ld = dense ? shape.elements() : host_tensor.ld(), .space = memory.get()};
  read_elements(source.get(), H5S_ALL, to, shape, 0, where);
}

void File::read_rows(std::string_view dataset, DType dtype, std::span<const std::uint32_t> rows, void* out) const {
  const std::string where = at(dataset);
  const Handle source = impl_->open_complete(absolute(dataset), where);
  const Handle space = own(H5Dget_space(source.get()), H5Sclose, where);
  const Shape shape = stored_shape(space.get(), where);
  check(shape.rank() > 0, Code::invalid_argument, where + ": is one value, it has no rows");
  const std::int64_t row_elements = shape[0] == 0 ? 0 : shape.elements() / shape[0];
  std::array<hsize_t, Shape::kMaxRank> start{}, count{};
  std::copy(shape.begin(), shape.end(), count.begin());
  auto* next = static_cast<std::byte*>(out);
  for (std::size_t i = 0; i < rows.size();) {
    std::size_t run = 1;   // neighbours in the file come in one read
    while (i + run < rows.size() && rows[i + run] == rows[i] + run) ++run;
    if (static_cast<std::int64_t>(rows[i]) + static_cast<std::int64_t>(run) > shape[0]) {
      fail(Code::out_of_range, where + ": row " + std::to_string(rows[i] + run - 1) + " of " + std::to_string(shape[0]));
    }
    start[0] = rows[i];
    count[0] = run;
    const std::int64_t elements = row_elements * static_cast<std::int64_t>(run);
    if (elements > 0) {
      check(H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr), where);
      ReadCount::add_bytes(static_cast<std::uint64_t>(elements) * size_of(dtype));
      const Handle memory = space_of({elements});
      const Destination to{.out = next, .dtype = dtype, .elements = elements, .columns = elements, .ld = elements,
                           .space = memory.get()};
      read_elements(source.get(), space.get(), to, shape, row_elements * static_cast<std::int64_t>(rows[i]), where);
    }
    next += static_cast<std::size_t>(elements) * size_of(dtype);
    i += run;
  }
}

std::uint32_t File::crc32c(std::string_view dataset, DiskProgress* progress) const {
  constexpr std::int64_t kPiece = 1 << 20;   // bytes
  const std::string where = at(dataset);
  const auto [dtype, shape] = info(dataset);
  const auto bytes = static_cast<std::int64_t>(size_of(dtype));
  if (shape.rank() == 0) {
    const Tensor value(host(), dtype, shape);
    read(dataset, value);
    return cohort::crc32c(value.raw(), value.bytes());
  }
  const Handle source = impl_->open_dataset(absolute(dataset), where), type = type_of(dtype);
  const Handle space = own(H5Dget_space(source.get()), H5Sclose, where);
  std::vector<std::byte> piece;
  std::uint32_t crc = 0;
  for (std::int64_t begin = 0; begin < shape.elements(); begin += kPiece / bytes) {
    const std::int64_t end = std::min(begin + kPiece / bytes, shape.elements());
    for_each_block(shape, begin, end, [&](const Block& block) {
      select(space.get(), block, where);
      piece.resize(static_cast<std::size_t>(block.elements * bytes));
      const Handle memory = space_of({block.elements});
      check(H5Dread(source.get(), type.get(), memory.get(), space.get(), H5P_DEFAULT, piece.data()), where + ": cannot read");
      crc = cohort::crc32c(piece.data(), piece.size(), crc);
      ReadCount::add_bytes(piece.size());
      if (progress != nullptr) progress->moved(0);
    });
  }
  return crc;
}

std::string File::read_text(std::string_view dataset) const {
  const std::string where = at(dataset);
  const Handle source = impl_->open_complete(absolute(dataset), where);
  const Handle type = own(H5Dget_type(source.get()), H5Tclose, where);
  const Handle space = own(H5Dget_space(source.get()), H5Sclose, where);
  check(H5Sget_simple_extent_npoints(space.get()) == 1, Code::data_loss, where + ": is not one text");
  ReadCount::add_bytes(H5Dget_storage_size(source.get()));
  return stored_text(type.get(), where,
                     [&](hid_t as, void* out) { return H5Dread(source.get(), as, H5S_ALL, H5S_ALL, H5P_DEFAULT, out); });
}

void File::set_attribute(std::string_view object, std::string_view name, const Attribute& value) {
  const std::string where = at(object), key(name), what = where + ": attribute '" + key + "'";
  const Handle target = impl_->open_object(absolute(object), where);
  if (H5Aexists(target.get(), key.c_str()) > 0) check(H5Adelete(target.get(), key.c_str()), what + ": cannot replace");
  const Handle space = space_of({});
  const auto store = [&](hid_t type, const void* data) {
    const Handle attribute = own(H5Acreate2(target.get(), key.c_str(), type, space.get(), H5P_DEFAULT, H5P_DEFAULT),
                                 H5Aclose, what + ": cannot create");
    check(H5Awrite(attribute.get(), type, data), what + ": cannot write");
  };
  if (const auto* whole = std::get_if<std::int64_t>(&value)) store(H5T_STD_I64LE, whole);
  else if (const auto* real = std::get_if<double>(&value)) store(H5T_IEEE_F64LE, real);
  else if (const auto* word = std::get_if<std::uint32_t>(&value)) store(H5T_STD_U32LE, word);
  else store(text_type(std::get<std::string>(value).size()).get(), std::get<std::string>(value).c_str());
  impl_->require_written();
}

bool File::has_attribute(std::string_view object, std::string_view name) const {
  const Handle target = impl_->open_object(absolute(object), at(object));
  return H5Aexists(target.get(), std::string(name).c_str()) > 0;
}

template <>
std::int64_t File::attribute(std::string_view object, std::string_view name) const {
  return impl_->number<std::int64_t>(absolute(object), name, at(object), H5T_INTEGER, H5T_NATIVE_INT64);
}
template <>
std::uint32_t File::attribute(std::string_view object, std::string_view name) const {
  const auto value = impl_->number<std::int64_t>(absolute(object), name, at(object), H5T_INTEGER, H5T_NATIVE_INT64);
  check(value >= 0 && value <= std::numeric_limits<std::uint32_t>::max(), Code::data_loss,
        at(object) + ": attribute '" + std::string(name) + "': is " + std::to_string(value) + ", no 32-bit number");
  return static_cast<std::uint32_t>(value);
}
template <>
double File::attribute(std::string_view object, std::string_view name) const {
  return impl_->number<double>(absolute(object), name, at(object), H5T_FLOAT, H5T_NATIVE_DOUBLE);
}
template <>
std::string File::attribute(std::string_view object, std::string_view name) const {
  const std::string what = at(object) + ": attribute '" + std::string(name) + "'";
  const Handle attribute = impl_->open_attribute(absolute(object), name, at(object));
  const Handle type = own(H5Aget_type(attribute.get()), H5Tclose, what);
  const Handle space = own(H5Aget_space(attribute.get()), H5Sclose, what);
  check(H5Sget_simple_extent_npoints(space.get()) == 1, Code::data_loss, what + ": is not one text");
  return stored_text(type.get(), what, [&](hid_t as, void* out) { return H5Aread(attribute.get(), as, out); });
}

}  // namespace cohort::hdf5
