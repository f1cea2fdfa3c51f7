// What the registry has published of all migrations, at one moment.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/strings/string_view.h"
#include "core/domain/snapshot.h"
#include "server/engine/name_map.h"

namespace lockstep::engine {

// Every published routing state at one revision. Shares with the ones before what has not changed.
struct PublishedRoutings {
  uint64_t revision = 0;
  uint64_t store_epoch = 0;
  NameMap<std::shared_ptr<const domain::MigrationRouting>> migrations;  // never null

  // Null when the migration isn't in it.
  const domain::MigrationRouting* Find(absl::string_view name) const {
    const auto* const found = migrations.Find(name);
    return found == nullptr ? nullptr : found->get();
  }
};

}  // namespace lockstep::engine
