// What RocksDB alone can make durable: threads that put values, each put synced, RocksDB forming the groups.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/bench/closed_loop.h"

namespace lockstep::bench {

// Thread-compatible.
class SyncedWriters {
 public:
  // A database of its own in `directory`, which does not exist yet, with RocksDB's default options but for
  // compression and preallocated logs, which the store does without too.
  static absl::StatusOr<std::unique_ptr<SyncedWriters>> Open(const std::string& directory);
  virtual ~SyncedWriters() = default;

  // `writers` threads put values of `value_bytes` random bytes for `duration`.
  virtual LoadResult Run(int writers, size_t value_bytes, absl::Duration duration) = 0;
};

}  // namespace lockstep::bench
