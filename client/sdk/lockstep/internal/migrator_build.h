// What Migrator::Builder checks and puts together whatever its types are.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "lockstep/client.h"
#include "lockstep/internal/mirror_path.h"
#include "lockstep/migrator_types.h"

namespace lockstep::internal {

// Which callbacks the service has given.
struct GivenCallbacks {
  bool routing_key = false;
  bool read_old = false;
  bool read_new = false;
  bool write_old = false;
  bool write_new = false;
  bool mirror_to_new = false;
  bool current_old = false;
  bool current_new = false;
  bool fields = false;
  bool key_codec = false;
};

struct MirrorParts {
  std::shared_ptr<MirrorPath> path;
  std::vector<JournalEntry> left_open;  // by an earlier process, for path->Recover
};

// `name` is the migration as the service wrote it, for messages. Errors as of Builder::Build, but for keys
// that can't be decoded.
absl::StatusOr<MirrorParts> CheckBuild(Client* client, MigrationHandle migration, absl::string_view name,
                                       const MigratorOptions& options, const GivenCallbacks& given);

// FAILED_PRECONDITION: the service's KeyCodec refused a key of parts.left_open.
absl::Status UndecodableKey(absl::string_view name, const MirrorParts& parts, const absl::Status& why);

}  // namespace lockstep::internal
