#include "core/domain/snapshot.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace lockstep::domain {
namespace {

absl::Status ValidateEntry(const MigrationRouting& entry, const MigrationRouting* last_good) {
  if (const absl::Status status = ValidateRoutingState(entry.state); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(entry.name, ": ", status.message()));
  }
  if (const absl::Status status = ValidateContract(entry.contract); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(entry.name, ": ", status.message()));
  }
  if (last_good == nullptr || last_good->state.salt_seed != entry.state.salt_seed) return absl::OkStatus();
  const RoutingState& last = last_good->state;
  if (entry.state.generation < last.generation) {
    return absl::InvalidArgumentError(absl::StrCat(entry.name, ": generation ", entry.state.generation,
                                                   " is older than ", last.generation, ", which is in use"));
  }
  if (entry.state.epoch < last.epoch) {
    return absl::InvalidArgumentError(absl::StrCat(entry.name, ": epoch ", entry.state.epoch,
                                                   " is older than ", last.epoch, ", which is in use"));
  }
  if (entry.state.epoch == last.epoch && !entry.state.RoutesLike(last)) {
    return absl::InvalidArgumentError(
        absl::StrCat(entry.name, ": epoch ", last.epoch, " is in use and routes differently"));
  }
  return absl::OkStatus();
}

}  // namespace

const MigrationRouting* Snapshot::Find(absl::string_view name) const {
  const auto found = std::lower_bound(
      migrations.begin(), migrations.end(), name,
      [](const MigrationRouting& entry, absl::string_view wanted) { return entry.name < wanted; });
  return found != migrations.end() && found->name == name ? &*found : nullptr;
}

absl::Status ValidateSnapshot(const Snapshot& snapshot, const Snapshot* last_good) {
  if (last_good != nullptr && snapshot.revision < last_good->revision) {
    return absl::InvalidArgumentError(absl::StrCat("revision ", snapshot.revision, " is older than ",
                                                   last_good->revision, ", which is in use"));
  }
  for (size_t i = 0; i < snapshot.migrations.size(); ++i) {
    const MigrationRouting& entry = snapshot.migrations[i];
    if (i > 0 && snapshot.migrations[i - 1].name >= entry.name) {
      return absl::InvalidArgumentError(absl::StrCat(entry.name, " follows ", snapshot.migrations[i - 1].name,
                                                     ": not sorted, or listed twice"));
    }
    const MigrationRouting* last = last_good == nullptr ? nullptr : last_good->Find(entry.name);
    if (absl::Status status = ValidateEntry(entry, last); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace lockstep::domain
