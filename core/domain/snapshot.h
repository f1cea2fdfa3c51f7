// What an SDK holds: the routing states (and contracts) of the migrations it asked for, at one revision.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/domain/contract.h"
#include "core/domain/routing_state.h"

namespace lockstep::domain {

struct MigrationRouting {
  std::string name;
  RoutingState state;
  Contract contract;
  // RoutingDigest of the above; 0 = not computed.
  uint64_t digest = 0;
};

// XXH3-64 of everything in `routing` that is acted on, pins and contract included; independent of the order
// of unordered parts, of memory layout and of versions of Protobuf. Never 0. Linear in the pins (n log n in
// pinned keys): computed once per published state.
//
// The digest is part of the public contract: clients in other languages compute it. It is XXH3-64 (seed 0) of
// the bytes below without padding, and 1 where that is 0. Notation: u8, u32, u64 = unsigned, little-endian;
// f64 = the bits of an IEEE 754 double as u64, with -0 as +0; text = u32 number of bytes, then the bytes;
// flag = u8, 0 or 1; list of X = u32 number of elements, then each X.
//
// clang-format off
//   text name
//   u8 stage               0 OFF, 1 DUAL_WRITE, 2 SHADOW_READ, 3 CANARY_READ, 4 CUTOVER, 5 NEW_ONLY, 6 COMPLETE
//   u32 read_weight
//   u32 drain_weight
//   u32 write_weight
//   u64 epoch
//   u64 generation
//   u32 comparison_weight
//   u64 salt_seed
//   list of pinned keys, ascending by their bytes (unsigned):
//     text key
//     u8 side              0 OLD, 1 NEW
//   list of attribute rules, in their order:
//     text attribute
//     list of text values, in their order
//     u8 side
//   u64 contract revision
//   list of contract fields, in their order:
//     text path
//     text old_path
//     text new_path
//     flag ignore
//     f64 tolerance
//     flag has_default
//     text default_value
//     u8 list_order        0 ORDERED, 1 UNORDERED
//     flag sensitive
// clang-format on
//
// tests/core/snapshot_digest_test.cc has the bytes and digests of two.
uint64_t RoutingDigest(const MigrationRouting& routing);

// Entries are sorted by name, each name once.
struct Snapshot {
  uint64_t revision = 0;     // the store revision it was taken at; only rises within a store epoch
  uint64_t store_epoch = 0;  // which history of the data the numbers belong to; 0 = unknown
  std::vector<MigrationRouting> migrations;

  // Null when the migration isn't in it. Logarithmic.
  const MigrationRouting* Find(absl::string_view name) const;
};

// Of the whole, likewise (XXH3-64, 1 where that is 0):
//
// clang-format off
//   u64 store_epoch
//   u64 revision
//   list of migrations, in their order (ascending by name):
//     text name
//     u64 digest           RoutingDigest; computed where it is 0
// clang-format on
uint64_t SnapshotDigest(const Snapshot& snapshot);

// What has changed between two snapshots of one store.
struct SnapshotDelta {
  uint64_t base_revision = 0;
  uint64_t revision = 0;
  std::vector<MigrationRouting> changed;  // sorted by name
  std::vector<std::string> removed;       // sorted
};

// By digest; quick where both have theirs computed. Both are of one store.
SnapshotDelta DeltaBetween(const Snapshot& base, const Snapshot& next);
// FAILED_PRECONDITION when `base` is not the snapshot that the delta changes; INVALID_ARGUMENT when it
// removes what is not there, changes what it removes, or is not sorted.
absl::StatusOr<Snapshot> ApplyDelta(const Snapshot& base, SnapshotDelta delta);

// What an SDK checks before it acts on a snapshot: sorted and unique names, every routing state valid, every
// contract valid, and neither revision nor any epoch or generation older than in `last_good` (null: none),
// nor an epoch that routes otherwise than it did there. Numbers of another store epoch are not compared: they
// count anew. A state with another salt seed belongs to another migration, recreated under the old name,
// whose epochs count anew. INVALID_ARGUMENT says which migration and why; the caller keeps its last good
// snapshot and sends the message as the NACK's reason.
absl::Status ValidateSnapshot(const Snapshot& snapshot, const Snapshot* last_good);

}  // namespace lockstep::domain
