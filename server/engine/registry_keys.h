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

// Last epoch and generation of a deleted migration, "epoch generation", decimal: should one of that name be
// created again, it goes on counting, so that an instance that slept through both never takes old for new.
inline std::string RetiredKey(absl::string_view name) { return absl::StrCat("retired/", name); }

}  // namespace lockstep::engine
