// Rows of the table meta that belong to the registry.
#pragma once

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace lockstep::engine {

// Number of audit entries, decimal.
inline constexpr char kAuditCountKey[] = "audit_count";

// Which history of the data the numbers belong to, decimal; see Registry::store_epoch.
inline constexpr char kStoreEpochKey[] = "store_epoch";

// There while instances that a restored backup does not know are awaited; see
// Registry::Options::await_unknown.
inline constexpr char kAwaitUnknownKey[] = "await_unknown";

// The longest validity that a remote decision may have been given, in ns, decimal: no start counts them for
// less, whatever it gives itself.
inline constexpr char kRemoteValidityKey[] = "remote_valid_for_ns";

// The newest epoch of a migration, replaced by others, whose remote decisions had ended (and those of all
// before it), decimal: a start need not take them as given just now.
inline std::string RemoteEndedKey(absl::string_view name) { return absl::StrCat("remote_ended/", name); }

// Last epoch and generation of a deleted migration, "epoch generation", decimal: should one of that name be
// created again, it goes on counting, so that an instance that slept through both never takes old for new.
inline std::string RetiredKey(absl::string_view name) { return absl::StrCat("retired/", name); }

// A migration's timeline of evidence after its newest decision (EvidenceTimeline::ToRow).
inline constexpr char kTimelinePrefix[] = "timeline/";
inline std::string TimelineKey(absl::string_view name) { return absl::StrCat(kTimelinePrefix, name); }
// An instance has shown that the data of the migration is older than its own: "store_epoch epoch instance",
// of the claim.
inline std::string BehindKey(absl::string_view name) { return absl::StrCat("behind/", name); }

}  // namespace lockstep::engine
