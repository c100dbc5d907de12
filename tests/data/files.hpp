#pragma once

#include <zlib.h>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cohort/base/options.hpp"
#include "support/temporary_folder.hpp"

namespace cohort::testing {

/// A section with the given keys; copies share it.
class Options {
 public:
  Options& with(std::string_view key, std::string value) { return put(key, std::move(value)); }
  Options& with(std::string_view key, const char* value) { return put(key, std::string(value)); }
  Options& with(std::string_view key, bool value) { return put(key, value); }
  Options& with(std::string_view key, int value) { return put(key, std::int64_t{value}); }
  Options& with(std::string_view key, double value) { return put(key, value); }
  Options& with(std::string_view key, std::initializer_list<int> values) {
    OptionList list;
    for (const int value : values) list.push_back({std::int64_t{value}, "test"});
    return put(key, list);
  }
  Options& with(std::string_view key, std::initializer_list<const char*> values) {
    OptionList list;
    for (const char* value : values) list.push_back({std::string(value), "test"});
    return put(key, list);
  }
  [[nodiscard]] Section& section() const { return *section_; }

 private:
  template <class T>
  Options& put(std::string_view key, T value) {
    section_->set(key, {std::move(value), "test"});
    return *this;
  }
  std::shared_ptr<Section> section_ = std::make_shared<Section>("data");
};

/// An IDX file of unsigned bytes, written out by hand.
inline std::string idx_bytes(const std::vector<std::uint32_t>& dims, const std::vector<unsigned char>& elements) {
  std::string bytes = {'\0', '\0', '\x08', static_cast<char>(dims.size())};
  for (const std::uint32_t dim : dims) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>((dim >> shift) & 0xffu);
  }
  bytes.append(elements.begin(), elements.end());
  return bytes;
}

inline std::string gzip(std::string_view bytes) {
  z_stream z{};
  check(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK, Code::internal, "zlib does not start");
  std::string out(deflateBound(&z, bytes.size()) + 64, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  z.avail_in = static_cast<uInt>(bytes.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  check(deflate(&z, Z_FINISH) == Z_STREAM_END, Code::internal, "zlib does not finish");
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

/// n images of 2 x 3 pixels, pixel j of image i being 10 i + j, and their labels i mod 10.
inline std::string idx_images(std::uint32_t n) {
  std::vector<unsigned char> pixels;
  for (std::uint32_t i = 0; i < n * 6; ++i) pixels.push_back(static_cast<unsigned char>(i / 6 * 10 + i % 6));
  return idx_bytes({n, 2, 3}, pixels);
}
inline std::string idx_labels(std::uint32_t n) {
  std::vector<unsigned char> labels;
  for (std::uint32_t i = 0; i < n; ++i) labels.push_back(static_cast<unsigned char>(i % 10));
  return idx_bytes({n}, labels);
}

}  // namespace cohort::testing
