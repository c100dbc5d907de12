#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace cohort {

/// A file's bytes from front to back, decompressed on the way if the file is gzip'd. Errors name the file and the offset
/// (in the decompressed bytes): not_found, data_loss.
class ByteSource {
 public:
  explicit ByteSource(std::string path);
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
  [[noreturn]] void damaged(const std::string& why) const;

 private:
  struct Impl;
  std::string path_;
  std::uint64_t offset_ = 0;
  std::unique_ptr<Impl> impl_;
};

/// The whole file as text.
[[nodiscard]] std::string read_text(const std::string& path);

}  // namespace cohort
