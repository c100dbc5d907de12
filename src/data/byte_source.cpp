#include "data/byte_source.hpp"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "cohort/base/error.hpp"
#include "cohort/base/stop.hpp"

namespace cohort {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 20;   // between two looks whether somebody has asked to stop
constexpr std::uint64_t kMostExpansion = 1032;   // deflate cannot expand more (zlib technical details)

}  // namespace

struct ByteSource::Impl {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file{nullptr, std::fclose};
  std::uint64_t file_bytes = 0;
  bool compressed = false;
  bool member_open = false;      ///< inside a gzip member, whose checksum is still to come
  z_stream inflater{};
  std::array<unsigned char, 1 << 16> input;

  ~Impl() {
    if (compressed) inflateEnd(&inflater);
  }
};

ByteSource::ByteSource(std::string path, ExpansionLimit limit)
    : path_(std::move(path)), limit_(std::move(limit)), impl_(std::make_unique<Impl>()) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path_, error)) fail(Code::not_found, path_ + ": no such file");
  impl_->file_bytes = std::filesystem::file_size(path_, error);
  impl_->file.reset(std::fopen(path_.c_str(), "rb"));
  if (!impl_->file) fail(Code::not_found, path_ + ": cannot open: " + std::strerror(errno));
  unsigned char magic[2] = {};
  const std::size_t got = std::fread(magic, 1, 2, impl_->file.get());
  std::rewind(impl_->file.get());
  if (got < 2 || magic[0] != 0x1f || magic[1] != 0x8b) return;
  check(inflateInit2(&impl_->inflater, 15 + 16) == Z_OK, Code::internal, path_ + ": zlib does not start");
  impl_->compressed = impl_->member_open = true;
}

ByteSource::~ByteSource() = default;
ByteSource::ByteSource(ByteSource&&) noexcept = default;

void ByteSource::damaged(const std::string& why) const {
  fail(Code::data_loss,
       path_ + ": at offset " + std::to_string(offset_) + (impl_->compressed ? " (decompressed)" : "") + ": " + why);
}

std::size_t ByteSource::read_some(void* out, std::size_t bytes) {
  std::FILE* file = impl_->file.get();
  std::size_t got = 0;
  while (!impl_->compressed && got < bytes) {
    throw_if_stopped("reading", path_);
    const std::size_t wanted = std::min(bytes - got, kPiece), came = std::fread(static_cast<char*>(out) + got, 1, wanted, file);
    if (std::ferror(file) != 0) damaged("cannot read");
    offset_ += came;
    got += came;
    if (came < wanted) return got;
  }
  z_stream& z = impl_->inflater;
  while (got < bytes) {
    throw_if_stopped("reading", path_);
    if (z.avail_in == 0) {
      z.next_in = impl_->input.data();
      z.avail_in = static_cast<uInt>(std::fread(impl_->input.data(), 1, impl_->input.size(), file));
      if (z.avail_in == 0) {
        if (std::ferror(file) != 0) damaged("cannot read");
        if (impl_->member_open) damaged("the compressed file is truncated");
        return got;
      }
    }
    if (!impl_->member_open) {   // a further member, as gzip files may have; anything else is garbage and fails in inflate
      const Bytef* const end = z.next_in + z.avail_in;
      z.next_in = std::find_if(z.next_in, static_cast<Bytef*>(z.next_in) + z.avail_in, [](Bytef byte) { return byte != 0; });
      z.avail_in = static_cast<uInt>(end - z.next_in);
      if (z.avail_in == 0) continue;     // zeros, with which tapes and some programs fill up the last block: gzip ignores them, too
      inflateReset(&z);
      impl_->member_open = true;
    }
    const auto room = static_cast<uInt>(std::min(bytes - got, kPiece));
    z.next_out = static_cast<Bytef*>(out) + got;
    z.avail_out = room;
    const int status = inflate(&z, Z_NO_FLUSH);
    got += room - z.avail_out;
    offset_ += room - z.avail_out;
    require_allowed(0, "decompresses to at least");
    if (status == Z_STREAM_END) impl_->member_open = false;
    else if (status != Z_OK)
      damaged(std::string("the compressed data is damaged: ") + (z.msg != nullptr ? z.msg : "zlib refuses it"));
  }
  return got;
}

void ByteSource::read(void* out, std::size_t bytes, const std::string& what) {
  const std::uint64_t start = offset_;
  const std::size_t got = read_some(out, bytes);
  if (got == bytes) return;
  damaged("the file ends, " + std::to_string(got) + " bytes of " + what + " are there, " + std::to_string(bytes) +
          " expected from offset " + std::to_string(start));
}

void ByteSource::expect_end() {
  char more = 0;
  const std::uint64_t end = offset_;
  if (read_some(&more, 1) == 0) return;
  offset_ = end;
  damaged("the file goes on where its end is expected");
}

std::uint64_t ByteSource::most_left() const {
  const std::uint64_t whole = impl_->compressed ? impl_->file_bytes * kMostExpansion : impl_->file_bytes;
  return whole - std::min(whole, offset_);
}

void ByteSource::require_allowed(std::uint64_t bytes, const std::string& what) const {
  if (impl_->compressed) limit_.require(offset_ + bytes, impl_->file_bytes, path_ + ": " + what);
}

std::uint64_t ByteSource::stored_bytes() const { return impl_->file_bytes; }

std::string read_text(const std::string& path, const ExpansionLimit& limit) {
  constexpr std::size_t kPiece = 1 << 20;
  ByteSource source(path, limit);
  std::string text;
  text.reserve(source.stored_bytes() + kPiece);   // all of a plain file: growing would take half as much again
  for (;;) {
    const std::size_t before = text.size();
    text.resize(before + kPiece);
    const std::size_t got = source.read_some(text.data() + before, kPiece);
    text.resize(before + got);
    if (got < kPiece) return text;
  }
}

}  // namespace cohort
