// The registry's past, for the gate. See registry.h.
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/engine/registry.h"

namespace lockstep::engine {

absl::StatusOr<GateSubject> Registry::FindGateSubject(absl::string_view name) const {
  LOCKSTEP_ASSIGN_OR_RETURN(const EntryPtr entry, FindEntry(name));
  return GateSubject{entry->migration, entry->timeline};
}

absl::StatusOr<GatePast> Registry::GateSubjectAt(absl::string_view name, absl::Time time) const {
  LOCKSTEP_ASSIGN_OR_RETURN(const EntryPtr entry, FindEntry(name));
  GatePast past;
  MigrationHistory history(*entry->migration);
  uint64_t decisions_before = 0;
  absl::Status damage;
  const store::KeyRange range = store::DecisionsOf(name);
  LOCKSTEP_RETURN_IF_ERROR(store_->Scan(store::Table::kDecisions, range.start, range.end, store::kNoLimit,
                                        [&](absl::string_view, absl::string_view value) {
                                          absl::StatusOr<domain::DecisionRecord> record =
                                              codec_->DecodeDecision(value);
                                          if (!record.ok()) {
                                            damage = record.status();
                                            return false;
                                          }
                                          if (record->time > time) return false;
                                          if (record->time < time) {
                                            history.Add(*record);
                                            decisions_before = record->number;
                                          }
                                          past.last_decision = *std::move(record);
                                          return true;
                                        }));
  LOCKSTEP_RETURN_IF_ERROR(damage);
  auto then = std::make_shared<domain::Migration>(history.migration());
  LOCKSTEP_RETURN_IF_ERROR(RestoreDefinition(decisions_before, then.get()));
  past.subject = {std::move(then), history.timeline()};
  return past;
}

absl::Status Registry::RestoreDefinition(uint64_t decision, domain::Migration* migration) const {
  if (decision == 0) return absl::OkStatus();  // it did not exist: nothing is judged by it
  const store::KeyRange range = store::DefinitionsUpTo(migration->name, decision);
  std::string newest;
  LOCKSTEP_RETURN_IF_ERROR(store_->Scan(store::Table::kDefinitions, range.start, range.end, store::kNoLimit,
                                        [&](absl::string_view, absl::string_view value) {
                                          newest.assign(value.data(), value.size());
                                          return true;
                                        }));
  if (newest.empty()) {
    return absl::DataLossError(
        absl::StrCat("the plan of ", migration->name, " before decision ", decision + 1, " is missing"));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(domain::Migration definition, codec_->DecodeMigration(newest));
  migration->plan = std::move(definition.plan);
  migration->plan_revision = definition.plan_revision;
  migration->contract = std::move(definition.contract);
  return absl::OkStatus();
}

std::string Registry::EncodeDefinition(const domain::Migration& migration) const {
  domain::Migration definition;
  definition.name = migration.name;
  definition.uid = migration.uid;
  definition.salt = migration.salt;
  definition.plan = migration.plan;
  definition.plan_revision = migration.plan_revision;
  definition.contract = migration.contract;
  definition.version = migration.version;
  definition.published = domain::StateOfStage(domain::Stage::kOff, 0);
  return codec_->Encode(definition);
}

}  // namespace lockstep::engine
