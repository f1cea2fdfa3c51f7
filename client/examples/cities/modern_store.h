// The new side of the example: a normalised SQLite database. Regions (country, first and second admin code)
// are rows of their own behind foreign keys, coordinates are REAL, names are NFC.
//
// Until CUTOVER reaches a row's bucket it is the mirror of the old side, and every write is guarded: it
// applies only when its stamp is newer than the row's. So mirror writes, backfill and retries may arrive in
// any order and any number of times, from any process, and the row ends in the same state. Deletes are
// tombstones, which keep their stamp: a late write of an older state can't bring a deleted row back.
//
// From then on it is the authority: Put and Delete mint a version in the transaction of the write, above the
// row's own, which the old side may have minted, and above every one minted here before.
//
// A stamp is (version, mapper), compared in that order. The version is the one the authority minted. The
// mapper is the release that produced the row: when a mapping bug has been fixed, copying the old side again
// with the newer release rewrites what the older one wrote at the same version, and a straggler of the older
// release changes nothing back.
//
// Idempotency of Put and Delete: as of the old side (legacy_store.h).
//
// Thread-safe. One object holds two connections, each behind its own mutex: one writes, one reads, so a read
// waits for another read but never for the disk of a write. A read that starts after a write has returned
// sees it. Several objects in several processes may share a file. Calls block for I/O, and a write for up to
// `busy_timeout`.
//
// Errors as in sqlite.h.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/examples/cities/city.h"
#include "client/examples/cities/mapper.h"
#include "client/examples/cities/sqlite.h"
#include "core/base/mutex.h"

namespace lockstep::examples {

struct WriteStamp {
  int64_t version = 0;
  MapperVersion mapper = MapperVersion::kCorrect;

  // clang-tidy 14 takes the 0 of the generated comparison for a null pointer.
  auto operator<=>(const WriteStamp&) const = default;  // NOLINT(modernize-use-nullptr)
};

// A row, or the wish to have it so. `city` is empty for a tombstone; else `city->id` is `id`.
struct ModernRow {
  int64_t id = 0;
  WriteStamp stamp;
  std::optional<CanonicalCity> city;

  bool operator==(const ModernRow&) const = default;
};

struct ModernOptions {
  SqliteOptions sqlite;
  // How many of the latest authoritative writes are remembered for their idempotency keys; at least 1.
  int64_t idempotency_window = 100'000;
};

struct ModernStats {
  int64_t rows = 0;
  int64_t tombstones = 0;
  int64_t countries = 0;
  int64_t admin_regions = 0;
  int64_t unused_admin_regions = 0;  // referenced by no row, as a mapping bug leaves them behind
  int64_t rows_by_mapper_v1 = 0;
  int64_t rows_by_mapper_v2 = 0;
  int64_t latest_version = 0;  // the last one that was minted here
};

class ModernStore {
 public:
  static absl::StatusOr<std::unique_ptr<ModernStore>> Open(const std::string& path,
                                                           const ModernOptions& options = {});
  ~ModernStore();

  // Authoritative writes. Inserts or replaces the row `city.id` as release `mapper` has it, and returns it
  // with its new stamp. INVALID_ARGUMENT when the name is not NFC, the id is below 1, the key is empty, or
  // the key was used for a different write.
  absl::StatusOr<ModernRow> Put(const CanonicalCity& city, MapperVersion mapper,
                                absl::string_view idempotency_key);
  // Turns the row into a tombstone and returns that. NOT_FOUND when there is no such row or it is deleted
  // already (by a write with another key); INVALID_ARGUMENT as of Put.
  absl::StatusOr<ModernRow> Delete(int64_t id, MapperVersion mapper, absl::string_view idempotency_key);

  // Writes the row (or its tombstone) when the stamp is newer than the stored one or there is none, with the
  // region it needs, in one transaction. INVALID_ARGUMENT when the name is not NFC or ids disagree.
  absl::StatusOr<ApplyResult> ApplyIfNewer(int64_t id, const std::optional<CanonicalCity>& city,
                                           WriteStamp stamp);

  // The same for many rows in one transaction, all or nothing. Returns how many were applied.
  absl::StatusOr<int64_t> ApplyBatchIfNewer(absl::Span<const ModernRow> rows);

  // The row or its tombstone; empty when there never was one.
  absl::StatusOr<std::optional<ModernRow>> Read(int64_t id);

  // Up to `limit` rows with ids above `after_id`, by ascending id, tombstones included. Each call sees one
  // moment of the database; two calls may see two.
  absl::StatusOr<std::vector<ModernRow>> Scan(int64_t after_id, int limit);

  absl::StatusOr<ModernStats> Stats();

 private:
  struct Writer;
  struct Reader;

  ModernStore(std::unique_ptr<Writer> writer, std::unique_ptr<Reader> reader, int64_t idempotency_window);

  // One authoritative write: looks the key up, mints a version, writes the row and remembers the result.
  absl::StatusOr<ModernRow> Write(ModernRow row, absl::string_view idempotency_key);

  const int64_t idempotency_window_;
  Mutex write_mutex_;  // never held together with read_mutex_
  const std::unique_ptr<Writer> writer_ ABSL_PT_GUARDED_BY(write_mutex_);
  Mutex read_mutex_;
  const std::unique_ptr<Reader> reader_ ABSL_PT_GUARDED_BY(read_mutex_);
};

}  // namespace lockstep::examples
