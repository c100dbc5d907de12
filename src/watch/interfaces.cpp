#include "watch/interfaces.hpp"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <set>
#include <sstream>

#include "watch/socket.hpp"

namespace cohort {
namespace {

/// In the machine's order of bytes.
std::optional<std::uint32_t> number_of(const std::string& address) {
  in_addr number{};
  if (inet_pton(AF_INET, address.c_str(), &number) != 1) return {};
  return ntohl(number.s_addr);
}

std::string text_of(const sockaddr& address) {
  std::array<char, INET_ADDRSTRLEN> text{};
  const in_addr& number = reinterpret_cast<const sockaddr_in&>(address).sin_addr;
  return inet_ntop(AF_INET, &number, text.data(), text.size()) != nullptr ? text.data() : "";
}

bool in_network(const std::string& address, const std::string& network, int prefix) {
  const auto one = number_of(address), other = number_of(network);
  if (!one || !other) return false;
  return prefix <= 0 || ((*one ^ *other) >> (32 - std::min(prefix, 32))) == 0;
}

/// Addresses that several machines have, such as those of their bridges to containers, lead nobody to another machine.
bool neighbours(const Interface& mine, const Interface& other) {
  return mine.address != other.address && mine.prefix == other.prefix && in_network(other.address, mine.address, mine.prefix);
}

/// This machine's address on the way to another; empty if it knows no way. Nothing is sent.
std::string source_of_route(const std::string& to) {
  const Descriptor probe(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  socklen_t length = sizeof address;
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  address.sin_family = AF_INET;
  address.sin_port = htons(9);
  if (!probe.open() || inet_pton(AF_INET, to.c_str(), &address.sin_addr) != 1) return {};
  if (connect(probe.get(), any, length) != 0 || getsockname(probe.get(), any, &length) != 0) return {};
  return text_of(*any);
}

std::string address_towards_one(const std::vector<Interface>& mine, const std::vector<Interface>& other) {
  for (const Interface& each : mine) {
    if (std::ranges::any_of(other, [&](const Interface& there) { return neighbours(each, there); })) return each.address;
  }
  for (const Interface& there : other) {
    const std::string source = source_of_route(there.address);
    if (std::ranges::find(mine, source, &Interface::address) != mine.end() && source != there.address) return source;
  }
  return kEverywhere;
}

}  // namespace

std::vector<Interface> interfaces_of_this_machine() {
  std::vector<Interface> result;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return result;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list, freeifaddrs);
  for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || i->ifa_netmask == nullptr || i->ifa_addr->sa_family != AF_INET) continue;
    if ((i->ifa_flags & IFF_UP) == 0 || (i->ifa_flags & IFF_LOOPBACK) != 0) continue;
    const std::uint32_t mask = ntohl(reinterpret_cast<const sockaddr_in*>(i->ifa_netmask)->sin_addr.s_addr);
    result.push_back({i->ifa_name, text_of(*i->ifa_addr), std::popcount(mask)});
  }
  return result;
}

std::string interfaces_text(const std::vector<Interface>& interfaces) {
  std::string text;
  for (const Interface& each : interfaces) text += fmt::format("{}{} {}/{}", text.empty() ? "" : ";", each.name, each.address, each.prefix);
  return text;
}

std::vector<Interface> interfaces_in(std::string_view text) {
  std::vector<Interface> result;
  std::istringstream entries{std::string(text)};
  for (std::string entry; std::getline(entries, entry, ';');) {
    const std::size_t blank = entry.find(' '), slash = entry.find('/', blank);
    if (blank == std::string::npos || slash == std::string::npos) continue;
    result.push_back({entry.substr(0, blank), entry.substr(blank + 1, slash - blank - 1), std::atoi(entry.c_str() + slash + 1)});
  }
  return result;
}

std::vector<Interface> chosen_interfaces(const std::vector<Interface>& all, const std::string& choice) {
  const std::size_t slash = choice.find('/');
  const int prefix = slash == std::string::npos ? 32 : std::atoi(choice.c_str() + slash + 1);
  std::vector<Interface> result;
  std::ranges::copy_if(all, std::back_inserter(result), [&](const Interface& each) {
    return each.name == choice || in_network(each.address, choice.substr(0, slash), prefix);
  });
  return result;
}

std::string address_towards(const std::vector<Interface>& mine, const std::vector<std::vector<Interface>>& others) {
  std::set<std::string> addresses;
  for (const std::vector<Interface>& other : others) addresses.insert(address_towards_one(mine, other));
  return addresses.size() == 1 ? *addresses.begin() : kEverywhere;
}

}  // namespace cohort
