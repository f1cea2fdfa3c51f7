// What an instance keeps over a restart: who it is, and the last good snapshot with the epochs it may still
// act on. One file of the StateStorage, replaced as a whole, with a checksum.
//
//   "LKSTATE1" | checksum: XXH3-64 of what follows | format version | fields
//
// The format is the SDK's own rather than Protobuf's, so that clients without a network library have it, too.
// That it carries everything that is acted on is checked at each load: the snapshot's digest is in the file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/domain/snapshot.h"
#include "lockstep/state_storage.h"
#include "lockstep/transport.h"

namespace lockstep::internal {

inline constexpr char kClientStateFile[] = "client_state";

struct StoredClientState {
  std::string instance_id;
  std::string service;
  // Nothing: not enrolled, because it has never been or has given its enrolment up.
  std::optional<domain::Snapshot> snapshot;
  // Of `snapshot`'s store.
  HeldEpochs held;
};

std::string EncodeClientState(const StoredClientState& state);
// DATA_LOSS saying what is wrong with it; UNIMPLEMENTED for a format of a later version.
absl::StatusOr<StoredClientState> DecodeClientState(absl::string_view bytes);

// Settles who the instance is: `instance_id`, or if that is empty the stored one, or else `new_id`; stores it
// if it is new. INVALID_ARGUMENT if the file is of another instance or service; otherwise the errors of
// DecodeClientState and of the disk. Messages name the file, in `place`, and say what to do.
absl::StatusOr<StoredClientState> OpenClientState(StateStorage& storage, absl::string_view place,
                                                  absl::string_view service, absl::string_view instance_id,
                                                  absl::string_view new_id);

// The part that concerns the migrations (full names, sorted) that the service still has. What it has no more
// is nothing it can act on; what it may still owe there is logged.
StoredClientState RestrictClientState(StoredClientState state, const std::vector<std::string>& migrations);

// Durable when it returns.
absl::Status SaveClientState(StateStorage& storage, const StoredClientState& state);

}  // namespace lockstep::internal
