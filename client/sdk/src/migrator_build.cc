#include "lockstep/internal/migrator_build.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "lockstep/internal/write_plan.h"

namespace lockstep::internal {
namespace {

absl::Status CheckRequired(absl::string_view name, const GivenCallbacks& given) {
  const std::pair<const char*, bool> required[] = {
      {"RoutingKey", given.routing_key}, {"ReadOld", given.read_old},          {"ReadNew", given.read_new},
      {"WriteOld", given.write_old},     {"MirrorToNew", given.mirror_to_new}, {"Fields", given.fields},
  };
  for (const auto& [callback, is_given] : required) {
    if (!is_given)
      return absl::InvalidArgumentError(absl::StrCat("Migrator for ", name, ": ", callback, " is missing"));
  }
  return absl::OkStatus();
}

absl::Status CheckForJournal(absl::string_view name, const GivenCallbacks& given) {
  // After a restart the keys in the journal are all there is: they must be read back, and the rows must be
  // asked for.
  const char* missing = nullptr;
  if (!given.key_codec) {
    missing = "KeyCodec";
  } else if (!given.current_old) {
    missing = "CurrentOld";
  } else if (given.write_new && !given.current_new) {
    missing = "CurrentNew";
  }
  if (missing == nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "Migrator for ", name, ": ", missing,
      " is missing. The client has a state directory, so mirrors that a crash cuts off are repaired after "
      "the restart: the journal keeps their keys, and the repair copies the row that the authoritative "
      "side has then. Give KeyCodec, CurrentOld and CurrentNew, or set MigratorOptions::journal to kOff; "
      "such writes then stay on one side until a verification sweep finds them"));
}

}  // namespace

absl::StatusOr<MirrorParts> CheckBuild(Client* client, MigrationHandle migration, absl::string_view name,
                                       const MigratorOptions& options, const GivenCallbacks& given) {
  LOCKSTEP_RETURN_IF_ERROR(ValidateMigratorOptions(options));
  LOCKSTEP_RETURN_IF_ERROR(CheckRequired(name, given));
  std::shared_ptr<MirrorJournal> journal = client->mirror_journal(migration);
  MirrorParts parts;
  if (journal != nullptr) {
    parts.left_open = journal->Unclaimed(options.journal_kind);
    switch (options.journal) {
      case JournalMode::kWhenStateDirectory:
        LOCKSTEP_RETURN_IF_ERROR(CheckForJournal(name, given));
        break;
      case JournalMode::kOff:
        if (!parts.left_open.empty()) {
          return absl::FailedPreconditionError(absl::StrCat(
              "Migrator for ", name, ": the mirror journal in the state directory has ",
              parts.left_open.size(),
              " open entries of an earlier process, and MigratorOptions::journal is kOff; switch it on "
              "until they are repaired"));
        }
        journal = nullptr;
        break;
    }
  }
  parts.path = std::make_shared<MirrorPath>(client, migration, options, std::move(journal));
  return parts;
}

absl::Status UndecodableKey(absl::string_view name, const MirrorParts& parts, const absl::Status& why) {
  return absl::FailedPreconditionError(
      absl::StrCat("Migrator for ", name, ": a key in the mirror journal can't be decoded by KeyCodec (",
                   parts.left_open.size(), " entries are open): ", why.message(),
                   "; deploy a codec that reads what the earlier version wrote"));
}

}  // namespace lockstep::internal
