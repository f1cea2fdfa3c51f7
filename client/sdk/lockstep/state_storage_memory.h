// A state directory in memory, for tests: it outlives the client that uses it, and loses at a crash what a
// disk might lose. Part of lockstep_client_testing.
//
//   auto disk = std::make_shared<MemoryStateStorage>(/*seed=*/7);
//   ... a client with .state_storage = disk ...
//   client.reset();
//   disk->Crash(MemoryStateStorage::Failure::kMachine);
//   ... another client with the same disk ...
//
// Thread-safe.
#pragma once

#include <map>
#include <string>

#include "core/base/mutex.h"
#include "core/base/prng.h"
#include "lockstep/state_storage.h"

namespace lockstep {

class MemoryStateStorage final : public StateStorage {
 public:
  enum class Failure : uint8_t {
    kProcess,  // what was written stays
    kMachine,  // of what was appended to a file since it was last synced or replaced, only a beginning stays
  };

  // The seed decides how much a crash of the machine leaves: nothing, a part that may end anywhere, or all.
  explicit MemoryStateStorage(uint64_t seed) : prng_(seed) {}

  absl::StatusOr<std::optional<std::string>> Read(absl::string_view name) override;
  absl::Status Replace(absl::string_view name, absl::string_view contents) override;
  absl::Status Append(absl::string_view name, absl::string_view bytes, bool sync) override;

  void Crash(Failure failure = Failure::kProcess);
  // While not OK, writing fails with it and changes nothing.
  void FailWrites(absl::Status status);
  // What the file holds, or will hold: to damage it. Counts as synced.
  void Put(absl::string_view name, std::string contents);
  // Of Replace and Append with `sync`.
  uint64_t Syncs() const;

 private:
  struct File {
    std::string contents;
    size_t synced_bytes = 0;
  };

  mutable Mutex mutex_;
  Prng prng_ ABSL_GUARDED_BY(mutex_);
  absl::Status write_status_ ABSL_GUARDED_BY(mutex_);
  uint64_t syncs_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, File> files_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep
