#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "data/expansion_limit.hpp"

namespace cohort {

/// A file's bytes from front to back, decompressed on the way if the file is gzip'd. Errors name the file and the offset
/// (in the decompressed bytes): not_found, data_loss; invalid_argument where it decompresses to more than `limit` allows.
class ByteSource {
 public:
  ByteSource(std::string path, ExpansionLimit limit);
  ~ByteSource();
  ByteSource(ByteSource&&) noexcept;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] std::uint64_t offset() const noexcept { return offset_; }
  /// Up to `bytes`; fewer only at the end.
  std::size_t read_some(void* out, std::size_t bytes);
  /// Exactly `bytes` of what `what` names ("the labels"), else data_loss.
  void read(void* out, std::size_t bytes, const std::string& what);
  /// data_loss unless the file ends here, checksum of the compression included.
  void expect_end();
  /// An upper bound on the bytes that can still come: refuses a damaged count before memory is taken for it.
  [[nodiscard]] std::uint64_t most_left() const;
  /// Error invalid_argument, beginning with the file and `what`, if so many bytes more are beyond the limit.
  void require_allowed(std::uint64_t bytes, const std::string& what) const;
  [[nodiscard]] std::uint64_t stored_bytes() const;
  [[noreturn]] void damaged(const std::string& why) const;

 private:
  struct Impl;
  std::string path_;
  ExpansionLimit limit_;
  std::uint64_t offset_ = 0;
  std::unique_ptr<Impl> impl_;
};

/// The whole file as text. Errors as above.
[[nodiscard]] std::string read_text(const std::string& path, const ExpansionLimit& limit);

}  // namespace cohort
