#include "core/domain/records.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace lockstep::domain {
namespace {

// Whole seconds from one second on: nobody reads nanoseconds of an operation that hangs.
std::string Age(absl::Duration age) {
  if (age < absl::Seconds(1)) return absl::StrCat(absl::ToInt64Milliseconds(age), " ms");
  if (age < absl::Minutes(1)) return absl::StrCat(absl::ToInt64Seconds(age), " s");
  return absl::FormatDuration(absl::Floor(age, absl::Seconds(1)));
}

}  // namespace

absl::string_view LeasePolicyName(LeasePolicy policy) {
  switch (policy) {
    case LeasePolicy::kKeepServing:
      return "KEEP_SERVING";
    case LeasePolicy::kFailWrites:
      return "FAIL_WRITES";
  }
  return "";
}

std::string DescribeStatus(const InstanceStatus& status) {
  std::vector<std::string> parts;
  const auto add = [&](uint32_t count, absl::string_view one, absl::string_view many) {
    if (count > 0) parts.push_back(absl::StrCat(count, " ", count == 1 ? one : many));
  };
  add(status.operations, "operation", "operations");
  if (status.operations > 0) absl::StrAppend(&parts.back(), ", oldest ", Age(status.oldest_operation));
  add(status.repairs, "repair", "repairs");
  add(status.queued_mirrors, "queued mirror write", "queued mirror writes");
  add(status.held_writes, "held write", "held writes");
  return absl::StrJoin(parts, "; ");
}

}  // namespace lockstep::domain
