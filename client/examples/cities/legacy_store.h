// The old side of the example: one flat SQLite table, coordinates as text. It is the authority over a row
// until CUTOVER reaches the row's bucket, and its mirror from then on.
//
// As the authority it mints versions, from one counter of the database that is taken in the transaction of
// the write and first brought up to the row's own version: so they rise with every write of a row, also of
// one whose last write the new side minted, and a row that is deleted and inserted again goes on upwards.
// Deletes leave a tombstone that carries the version of the delete.
//
// As the mirror it applies a row only if it is newer than what it holds, row or tombstone.
//
// Idempotency: every write names a key. The latest `idempotency_window` writes are remembered with their
// results; a repeat within that window writes nothing and returns the first result, even if the row has
// changed since. The memory is a table written in the same transaction, so it holds across processes and
// crashes.
//
// Thread-safe. One object holds two connections, each behind its own mutex: one writes, one reads, so a read
// waits for another read but never for the disk of a write. A read that starts after a write has returned
// sees it. Several objects in several processes may share a file. Calls block for I/O, and a write for up to
// `sqlite.busy_timeout`.
//
// Errors as in sqlite.h, and as stated at each call.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/examples/cities/city.h"
#include "client/examples/cities/sqlite.h"
#include "core/base/mutex.h"

namespace lockstep::examples {

// A row as a write left it. `city` is empty for a tombstone.
struct LegacyRow {
  int64_t id = 0;
  int64_t version = 0;
  std::optional<City> city;

  bool operator==(const LegacyRow&) const = default;
};

struct LegacyOptions {
  SqliteOptions sqlite;
  // How many of the latest writes are remembered for their idempotency keys; at least 1.
  int64_t idempotency_window = 100'000;
};

struct LegacyStats {
  int64_t rows = 0;
  int64_t tombstones = 0;
  int64_t latest_version = 0;  // the last one that was minted here
};

class LegacyStore {
 public:
  static absl::StatusOr<std::unique_ptr<LegacyStore>> Open(const std::string& path,
                                                           const LegacyOptions& options = {});
  ~LegacyStore();

  // Fills an empty database in one transaction, all or nothing; versions 1, 2, ... in the order given.
  // FAILED_PRECONDITION when there are rows already, INVALID_ARGUMENT for an id below 1 or given twice.
  absl::Status Load(absl::Span<const City> cities);

  // Inserts or replaces the row `city.id` and returns it with its new version. INVALID_ARGUMENT when the id
  // is below 1, the key is empty, or the key was used for a different write.
  absl::StatusOr<LegacyRow> Put(const City& city, absl::string_view idempotency_key);

  // Turns the row into a tombstone and returns that. NOT_FOUND when there is no such row or it is deleted
  // already (by a write with another key); INVALID_ARGUMENT as of Put.
  absl::StatusOr<LegacyRow> Delete(int64_t id, absl::string_view idempotency_key);

  // A mirror write: the row, or a tombstone without `city`, as the new side has it at `version`.
  // INVALID_ARGUMENT when an id is below 1 or the ids disagree.
  absl::StatusOr<ApplyResult> ApplyIfNewer(int64_t id, const std::optional<City>& city, int64_t version);

  // The row or its tombstone; empty when there never was one.
  absl::StatusOr<std::optional<LegacyRow>> Read(int64_t id);

  // Up to `limit` rows with ids in (after_id, last_id], by ascending id, tombstones included. Each call sees
  // one moment of the database; two calls may see two.
  absl::StatusOr<std::vector<LegacyRow>> Scan(int64_t after_id, int64_t last_id, int limit);

  absl::StatusOr<LegacyStats> Stats();

 private:
  struct Writer;
  struct Reader;

  LegacyStore(std::unique_ptr<Writer> writer, std::unique_ptr<Reader> reader, int64_t idempotency_window);

  // One write: looks the key up, mints a version, writes the row and remembers the result.
  absl::StatusOr<LegacyRow> Write(int64_t id, const City* city, absl::string_view idempotency_key);

  const int64_t idempotency_window_;
  Mutex write_mutex_;  // never held together with read_mutex_
  const std::unique_ptr<Writer> writer_ ABSL_PT_GUARDED_BY(write_mutex_);
  Mutex read_mutex_;
  const std::unique_ptr<Reader> reader_ ABSL_PT_GUARDED_BY(read_mutex_);
};

}  // namespace lockstep::examples
