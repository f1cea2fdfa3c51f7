// The contract of a migration: how the fields of the old record relate to those of the new one. It is served
// to the SDK, whose comparator follows it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace lockstep::domain {

enum class ListOrder : uint8_t { kOrdered, kUnordered };

struct FieldRule {
  std::string path;      // canonical path, e.g. "address.city"; unique within the contract
  std::string old_path;  // where it comes from, for people; empty = `path`
  std::string new_path;  // where it went, for people; empty = `path`
  bool ignore = false;   // never compared
  double tolerance = 0;  // numbers are equal when |a - b| <= tolerance; >= 0, finite
  // A missing value counts as this one (canonical text: "0", "true", "abc"); empty with has_default: "".
  bool has_default = false;
  std::string default_value;
  ListOrder list_order = ListOrder::kOrdered;
  bool sensitive = false;  // samples never carry anything but path, class and lengths of it
  bool operator==(const FieldRule&) const = default;
};

// `revision` is raised by every edit; evidence gathered under another revision does not count.
struct Contract {
  std::vector<FieldRule> fields;
  uint64_t revision = 1;
  bool operator==(const Contract&) const = default;
};

inline constexpr size_t kMaxContractFields = 512;

absl::Status ValidateContract(const Contract& contract);

}  // namespace lockstep::domain
