#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cohort {

/// One IPv4 address of a machine, that others may reach it by.
struct Interface {
  std::string name;              ///< "eth0"
  std::string address;           ///< "10.0.0.7"
  int prefix = 32;               ///< bits of the address that name the network
  friend bool operator==(const Interface&, const Interface&) = default;
};

/// All that are up, loopback left out.
[[nodiscard]] std::vector<Interface> interfaces_of_this_machine();

/// "eth0 10.0.0.7/24;ib0 …", to tell others, and back.
[[nodiscard]] std::string interfaces_text(const std::vector<Interface>& interfaces);
[[nodiscard]] std::vector<Interface> interfaces_in(std::string_view text);

/// Those that a user's choice means: a name ("eth0"), an address ("10.0.0.7") or a network ("10.0.0.0/8").
[[nodiscard]] std::vector<Interface> chosen_interfaces(const std::vector<Interface>& all, const std::string& choice);

/// The address of `mine` by which all `others`, the interfaces of each other machine, reach this one: in a network that they
/// share, or else where this machine's routes to them begin. kEverywhere if it is not one and the same for all of them.
[[nodiscard]] std::string address_towards(const std::vector<Interface>& mine, const std::vector<std::vector<Interface>>& others);

}  // namespace cohort
