#include "core/domain/snapshot.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/status_macros.h"

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

// Sorted, each once.
template <typename List, typename NameOf>
absl::Status CheckSorted(const List& list, absl::string_view what, NameOf name_of) {
  for (size_t i = 1; i < list.size(); ++i) {
    if (name_of(list[i - 1]) < name_of(list[i])) continue;
    return absl::InvalidArgumentError(absl::StrCat(what, ": ", name_of(list[i]), " follows ",
                                                   name_of(list[i - 1]), ": not sorted, or listed twice"));
  }
  return absl::OkStatus();
}

absl::Status CheckApplies(const Snapshot& base, const SnapshotDelta& delta) {
  if (base.revision != delta.base_revision) {
    return absl::FailedPreconditionError(absl::StrCat("the delta changes revision ", delta.base_revision,
                                                      ", and revision ", base.revision,
                                                      " is in use: a whole snapshot is needed"));
  }
  LOCKSTEP_RETURN_IF_ERROR(
      CheckSorted(delta.changed, "changed", [](const MigrationRouting& m) { return m.name; }));
  LOCKSTEP_RETURN_IF_ERROR(CheckSorted(delta.removed, "removed", [](const std::string& n) { return n; }));
  for (const std::string& name : delta.removed) {
    if (base.Find(name) == nullptr)
      return absl::InvalidArgumentError(absl::StrCat("removed: ", name, " is not there"));
  }
  for (const MigrationRouting& changed : delta.changed) {
    if (std::binary_search(delta.removed.begin(), delta.removed.end(), changed.name))
      return absl::InvalidArgumentError(absl::StrCat(changed.name, " is both changed and removed"));
  }
  return absl::OkStatus();
}

uint64_t DigestOf(const MigrationRouting& routing) {
  return routing.digest != 0 ? routing.digest : RoutingDigest(routing);
}

}  // namespace

const MigrationRouting* Snapshot::Find(absl::string_view name) const {
  const auto found = std::lower_bound(
      migrations.begin(), migrations.end(), name,
      [](const MigrationRouting& entry, absl::string_view wanted) { return entry.name < wanted; });
  return found != migrations.end() && found->name == name ? &*found : nullptr;
}

SnapshotDelta DeltaBetween(const Snapshot& base, const Snapshot& next) {
  LOCKSTEP_CHECK(base.store_epoch == next.store_epoch, "revisions of different stores can't be compared");
  SnapshotDelta delta{base.revision, next.revision, {}, {}};
  auto before = base.migrations.begin();
  for (const MigrationRouting& routing : next.migrations) {
    for (; before != base.migrations.end() && before->name < routing.name; ++before) {
      delta.removed.push_back(before->name);
    }
    const bool known = before != base.migrations.end() && before->name == routing.name;
    if (!known || DigestOf(*before) != DigestOf(routing)) delta.changed.push_back(routing);
    if (known) ++before;
  }
  for (; before != base.migrations.end(); ++before) delta.removed.push_back(before->name);
  return delta;
}

absl::StatusOr<Snapshot> ApplyDelta(const Snapshot& base, SnapshotDelta delta) {
  LOCKSTEP_RETURN_IF_ERROR(CheckApplies(base, delta));
  Snapshot out{delta.revision, base.store_epoch, {}};
  out.migrations.reserve(base.migrations.size() + delta.changed.size());
  auto changed = delta.changed.begin();
  for (const MigrationRouting& routing : base.migrations) {
    for (; changed != delta.changed.end() && changed->name < routing.name; ++changed) {
      out.migrations.push_back(std::move(*changed));
    }
    if (changed != delta.changed.end() && changed->name == routing.name) {
      out.migrations.push_back(std::move(*changed++));
    } else if (!std::binary_search(delta.removed.begin(), delta.removed.end(), routing.name)) {
      out.migrations.push_back(routing);
    }
  }
  for (; changed != delta.changed.end(); ++changed) out.migrations.push_back(std::move(*changed));
  return out;
}

absl::Status ValidateSnapshot(const Snapshot& snapshot, const Snapshot* last_good) {
  if (last_good != nullptr && last_good->store_epoch != snapshot.store_epoch) last_good = nullptr;
  if (last_good != nullptr && snapshot.revision < last_good->revision) {
    return absl::InvalidArgumentError(absl::StrCat("revision ", snapshot.revision, " is older than ",
                                                   last_good->revision,
                                                   ", which is in use: the server's data is older"));
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
