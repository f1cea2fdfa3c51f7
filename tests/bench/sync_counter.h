// Counts the syncs of this process where another one can read them: whatever any library in it syncs.
//
// Linked into a program, it stands in for fsync(2) and fdatasync(2).
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lockstep::bench {

struct SyncCounts {
  std::atomic<uint64_t> log;    // write-ahead logs
  std::atomic<uint64_t> mark;   // the mark file
  std::atomic<uint64_t> other;  // table files, manifests, directories
};

// Shared memory in the file `path`, which is made when it is missing and starts from 0. Stays mapped until
// the process ends.
absl::StatusOr<SyncCounts*> MapSyncCounts(const std::string& path);

// From now on, this process's syncs are counted in `counts`.
void CountSyncsIn(SyncCounts* counts);

}  // namespace lockstep::bench
