#include "hdf5/disk_driver.hpp"

#include <algorithm>
#include <functional>
#include <iterator>

namespace cohort::hdf5 {
namespace {

using File = std::shared_ptr<DiskFile>;

/// What HDF5 knows of an open file; the public part comes first, as H5FD_t wants it.
struct Opened {
  H5FD_t hdf5{};
  File file;
  haddr_t end_of_allocation = 0;
};

Opened& opened(H5FD_t* file) { return *reinterpret_cast<Opened*>(file); }
const Opened& opened(const H5FD_t* file) { return *reinterpret_cast<const Opened*>(file); }

// Access properties hold a share of the file each, and HDF5 copies them as it likes.
void* copy_access(const void* access) { return new File(*static_cast<const File*>(access)); }
herr_t free_access(void* access) {
  delete static_cast<File*>(access);
  return 0;
}
void* access_of(H5FD_t* file) { return new File(opened(file).file); }

/// HDF5 may open a file twice, and close it in between. Another name would be a file that somebody reads.
H5FD_t* open(const char* name, unsigned, hid_t access, haddr_t) {
  const auto* const file = static_cast<const File*>(H5Pget_driver_info(access));
  if (file == nullptr || (*file)->path() != name) return nullptr;
  return &(new Opened{.file = *file})->hdf5;
}

herr_t close(H5FD_t* file) {
  delete &opened(file);
  return 0;
}

int compare(const H5FD_t* a, const H5FD_t* b) {
  const DiskFile* const first = opened(a).file.get();
  const DiskFile* const second = opened(b).file.get();
  if (first == second) return 0;
  return std::less<>()(first, second) ? -1 : 1;
}

herr_t query(const H5FD_t*, unsigned long* flags) {   // as the driver that HDF5 has for such files
  if (flags != nullptr) {
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE | H5FD_FEAT_AGGREGATE_SMALLDATA |
             H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
  }
  return 0;
}

haddr_t end_of_allocation(const H5FD_t* file, H5FD_mem_t) { return opened(file).end_of_allocation; }
herr_t set_end_of_allocation(H5FD_t* file, H5FD_mem_t, haddr_t end) {
  opened(file).end_of_allocation = end;
  return 0;
}
haddr_t end_of_file(const H5FD_t* file, H5FD_mem_t) { return opened(file).file->size(); }

herr_t read(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t at, size_t bytes, void* out) { return opened(file).file->read_at(at, out, bytes) ? 0 : -1; }
herr_t write(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t at, size_t bytes, const void* data) {
  opened(file).file->write_at(at, data, bytes);
  return 0;
}
herr_t truncate(H5FD_t* file, hid_t, hbool_t) {
  Opened& of = opened(file);
  if (of.end_of_allocation != of.file->size()) of.file->set_size(of.end_of_allocation);
  return 0;
}

const H5FD_class_t kDriver = [] {
  H5FD_class_t driver{};
  driver.name = "cohort disk file";
  driver.maxaddr = (haddr_t{1} << 63) - 1;
  driver.fc_degree = H5F_CLOSE_WEAK;
  driver.fapl_size = sizeof(File);
  driver.fapl_get = access_of;
  driver.fapl_copy = copy_access;
  driver.fapl_free = free_access;
  driver.open = open;
  driver.close = close;
  driver.cmp = compare;
  driver.query = query;
  driver.get_eoa = end_of_allocation;
  driver.set_eoa = set_end_of_allocation;
  driver.get_eof = end_of_file;
  driver.read = read;
  driver.write = write;
  driver.truncate = truncate;
  const H5FD_mem_t kinds[] = H5FD_FLMAP_DICHOTOMY;
  std::copy(std::begin(kinds), std::end(kinds), std::begin(driver.fl_map));
  return driver;
}();

}  // namespace

void write_to(hid_t access, const File& file) {
  static const hid_t driver = check(H5FDregister(&kDriver), "HDF5 driver");
  check(H5Pset_driver(access, driver, &file), "HDF5 driver");
}

}  // namespace cohort::hdf5
