// Event files as TensorBoard reads them: records (length, masked CRC-32C of it, contents, masked CRC-32C of them; see
// tensorflow/core/lib/io/record_writer.h) that hold Event messages (tensorflow/core/util/event.proto) in protocol buffers'
// wire format, of which so little is needed that it is written out here.
#include <bit>
#include <cstring>

#include "cohort/base/crc32c.hpp"
#include "cohort/base/error.hpp"
#include "cohort/report/metrics_writer.hpp"
#include "report/output_file.hpp"

namespace cohort {
namespace {

template <class T>
void append_little_endian(std::string& out, T value) {
  static_assert(std::endian::native == std::endian::little);
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  out.append(bytes, sizeof value);
}

/// A protocol buffers message as it grows: field number and wire type, then the value.
class Message {
 public:
  Message& whole(std::uint32_t field, std::int64_t value) { return key(field, 0).varint(static_cast<std::uint64_t>(value)); }
  Message& real(std::uint32_t field, double value) {
    key(field, 1);
    append_little_endian(bytes_, value);
    return *this;
  }
  Message& real(std::uint32_t field, float value) {
    key(field, 5);
    append_little_endian(bytes_, value);
    return *this;
  }
  Message& text(std::uint32_t field, std::string_view value) {
    key(field, 2).varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& message(std::uint32_t field, const Message& value) { return text(field, value.bytes_); }
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  Message& key(std::uint32_t field, std::uint32_t wire_type) { return varint(field << 3 | wire_type); }
  Message& varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
    return *this;
  }

  std::string bytes_;
};

// Field numbers of tensorflow.Event, Summary, Summary.Value and SessionLog.
constexpr std::uint32_t kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;
constexpr std::uint32_t kValue = 1, kTag = 1, kSimpleValue = 2, kStatus = 1;
constexpr std::int64_t kSessionStart = 1;

/// A file that is not there yet: a run that starts within the same second takes the next number.
OutputFile new_event_file(const std::filesystem::path& folder, double wall_time, const std::string& host) {
  const std::string name = "events.out.tfevents." + std::to_string(static_cast<std::int64_t>(wall_time)) + "." + host;
  for (int attempt = 0;; ++attempt) {
    OutputFile file(folder / (attempt == 0 ? name : name + "." + std::to_string(attempt)), OutputFile::Mode::fresh);
    if (file.open()) return file;
  }
}

class TensorboardWriter final : public MetricsWriter {
 public:
  TensorboardWriter(const std::filesystem::path& folder, const MetricsStart& start)
      : wall_time_(start.wall_time ? start.wall_time : system_wall_time),
        out_(new_event_file(folder, wall_time_(), start.host)) {
    out_.flush_soon();
    record(Message().real(kWallTime, wall_time_()).text(kFileVersion, "brain.Event:2"));
    if (start.after_step < 0) return;
    // TensorBoard drops what it has read of this step and later ones.
    const Message session = Message().whole(kStatus, kSessionStart);
    record(Message().real(kWallTime, wall_time_()).whole(kStep, start.after_step + 1).message(kSessionLog, session));
  }

  void scalar(std::string_view name, std::int64_t step, double value) override {
    const Message one = Message().text(kTag, name).real(kSimpleValue, static_cast<float>(value));
    record(Message().real(kWallTime, wall_time_()).whole(kStep, step).message(kSummary, Message().message(kValue, one)));
  }

  void end_step() override {}
  void flush() override { out_.flush(); }
  void close() override { out_.close(); }

 private:
  void record(const Message& event) {
    const std::string& contents = event.bytes();
    std::string framed;
    append_little_endian(framed, static_cast<std::uint64_t>(contents.size()));
    append_little_endian(framed, mask_crc32c(crc32c(framed.data(), framed.size())));
    framed += contents;
    append_little_endian(framed, mask_crc32c(crc32c(contents.data(), contents.size())));
    out_.write(framed);
  }

  std::function<double()> wall_time_;
  OutputFile out_;
};

}  // namespace

std::unique_ptr<MetricsWriter> tensorboard_writer(const std::filesystem::path& folder, const MetricsStart& start) {
  return std::make_unique<TensorboardWriter>(folder, start);
}

}  // namespace cohort
