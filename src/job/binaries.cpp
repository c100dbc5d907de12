#include "job/binaries.hpp"

#include <elf.h>
#include <fmt/core.h>
#include <link.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "cohort/base/crc32c.hpp"
#include "cohort/base/library.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;

/// The build id among the notes of a segment in memory, in hexadecimal; empty if it is not there.
std::string build_id_in(const char* notes, std::size_t bytes, std::size_t alignment) {
  const auto padded = [&](std::size_t n) { return (n + alignment - 1) / alignment * alignment; };
  while (bytes >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) header;
    std::memcpy(&header, notes, sizeof header);
    const std::size_t description = padded(sizeof header + header.n_namesz), all = padded(description + header.n_descsz);
    if (all > bytes) break;
    if (header.n_type == NT_GNU_BUILD_ID && std::string_view(notes + sizeof header, header.n_namesz) == std::string_view("GNU\0", 4)) {
      std::string text;
      for (std::size_t i = 0; i < header.n_descsz; ++i) {
        text += fmt::format("{:02x}", static_cast<unsigned char>(notes[description + i]));
      }
      return text;
    }
    notes += all;
    bytes -= all;
  }
  return {};
}

std::string build_id_of(const dl_phdr_info& object) {
  std::string id;
  for (ElfW(Half) i = 0; i < object.dlpi_phnum && id.empty(); ++i) {
    const ElfW(Phdr)& segment = object.dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    id = build_id_in(reinterpret_cast<const char*>(object.dlpi_addr + segment.p_vaddr), segment.p_memsz, segment.p_align == 8 ? 8 : 4);
  }
  return id;
}

std::string crc_of_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::array<char, 1 << 16> piece{};
  std::uint32_t crc = 0;
  while (file.read(piece.data(), piece.size()) || file.gcount() > 0) {
    crc = crc32c(piece.data(), static_cast<std::size_t>(file.gcount()), crc);
  }
  return fmt::format("CRC-32C {:08x}", crc);
}

struct Listing {
  std::span<const std::string> plugins;
  std::string text;

  /// Of the objects in this process only our own count: which others are loaded, such as Open MPI's modules, may differ.
  [[nodiscard]] bool is_ours(std::string_view path) const {
    const auto is_plugin = [&](const std::string& plugin) { return path == plugin || path == "./" + plugin; };
    return path.empty() || fs::path(path).filename().string().starts_with("libcohort.so") || std::ranges::any_of(plugins, is_plugin);
  }
  void add(const dl_phdr_info& object) {
    const std::string path = object.dlpi_name == nullptr ? "" : object.dlpi_name;
    if (!is_ours(path)) return;
    const std::string id = build_id_of(object), file = path.empty() ? "/proc/self/exe" : path;
    text += fmt::format("{} = {}\n", path.empty() ? "the program" : fs::path(path).filename().string(),
                        id.empty() ? crc_of_file(file) : "build " + id);
  }
};

}  // namespace

std::string binaries_text(std::span<const std::string> plugins) {
  Listing listing{plugins, {}};
  const auto add = [](dl_phdr_info* object, std::size_t, void* to) {
    static_cast<Listing*>(to)->add(*object);
    return 0;
  };
  dl_iterate_phdr(add, &listing);
  for (const auto& [name, entry] : Registry<Library>::instance().entries()) {
    std::string version = entry.value.version();
    std::ranges::replace(version, '\n', ' ');
    listing.text += fmt::format("{} = {}\n", name, version);
  }
  return listing.text;
}

}  // namespace cohort
