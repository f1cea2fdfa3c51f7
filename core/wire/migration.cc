#include "core/wire/migration.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"
#include "core/wire/contract.h"
#include "core/wire/enums.h"
#include "core/wire/gate.h"
#include "core/wire/plan.h"
#include "core/wire/resource_name.h"
#include "core/wire/routing_state.h"
#include "core/wire/timestamps.h"

namespace lockstep::wire {
namespace {

constexpr size_t kMaxDescriptionBytes = 4096;
constexpr size_t kMaxLabels = 64;
constexpr size_t kMaxLabelCharacters = 63;
constexpr size_t kMaxOwners = 64;
constexpr size_t kMaxOwnerBytes = 256;
constexpr size_t kMaxSaltBytes = 256;

// One field that an update may replace. Reading adds violations for its own value only, save for the plan,
// which is judged together with the contract (CheckPlan) when both have been read.
struct UpdatableField {
  absl::string_view name;
  bool concerns_plan;
  void (*read)(const v1::Migration& from, domain::Migration& to, Violations& violations);
};

void ReadDescription(const v1::Migration& from, domain::Migration& to, Violations& violations) {
  CheckBytes(FieldPath() / "description", from.description().size(), {.max = kMaxDescriptionBytes},
             violations);
  to.description = from.description();
}

void ReadLabels(const v1::Migration& from, domain::Migration& to, Violations& violations) {
  const FieldPath root;
  CheckCount(root / "labels", from.labels_size(), {.max = kMaxLabels}, violations);
  to.labels = {from.labels().begin(), from.labels().end()};
  for (const auto& [key, value] : to.labels) {
    if (key.empty()) violations.Add(root / "labels", "has an empty key");
    if (Utf8Length(key) > kMaxLabelCharacters) {
      violations.Add(root / "labels", absl::StrCat("the key \"", Utf8Prefix(key, kMaxLabelCharacters),
                                                   "...\" has ", Utf8Length(key), " characters; at most ",
                                                   kMaxLabelCharacters, " are allowed"));
      continue;
    }
    CheckLength(root.At("labels", key), value, {.max = kMaxLabelCharacters}, violations);
  }
}

void ReadOwners(const v1::Migration& from, domain::Migration& to, Violations& violations) {
  const FieldPath root;
  CheckCount(root / "owners", from.owners_size(), {.max = kMaxOwners}, violations);
  to.owners = {from.owners().begin(), from.owners().end()};
  for (size_t i = 0; i < to.owners.size(); ++i) {
    CheckBytes(root.At("owners", i), to.owners[i].size(), {.min = 1, .max = kMaxOwnerBytes}, violations);
  }
}

void ReadPlanField(const v1::Migration& from, domain::Migration& to, Violations& violations) {
  const FieldPath root;
  to.plan = ReadPlan(from.plan(), root / "plan", violations);
}

void ReadContractField(const v1::Migration& from, domain::Migration& to, Violations& violations) {
  const FieldPath root;
  const uint64_t revision = to.contract.revision;  // output only
  to.contract = ReadContract(from.contract(), root / "contract", violations);
  to.contract.revision = revision;
  CheckContract(to.contract, root / "contract", violations);
}

void ReadPinsField(const v1::Migration& from, domain::Migration& to, Violations& violations) {
  const FieldPath root;
  CheckPins(from.pins(), root / "pins", violations);
  to.pins = ReadPins(from.pins(), root / "pins", violations);
}

constexpr UpdatableField kUpdatableFields[] = {
    {"description", false, ReadDescription}, {"labels", false, ReadLabels},
    {"owners", false, ReadOwners},           {"plan", true, ReadPlanField},
    {"contract", true, ReadContractField},   {"pins", false, ReadPinsField},
};

const UpdatableField* FindUpdatable(absl::string_view name) {
  for (const UpdatableField& field : kUpdatableFields) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

domain::Migration ReadDefinition(const v1::Migration& migration, Violations& violations) {
  const FieldPath root;
  domain::Migration out;
  out.name = migration.name();
  if (!out.name.empty()) CheckMigrationName(root / "name", out.name, violations);
  CheckBytes(root / "salt", migration.salt().size(), {.max = kMaxSaltBytes}, violations);
  out.salt = migration.salt();
  for (const UpdatableField& field : kUpdatableFields) field.read(migration, out, violations);
  CheckPlan(out.plan, out.contract, violations);
  return out;
}

// The name that parent and migration_id make; migration.name may be left out, but must not contradict them.
void CheckNewName(const v1::CreateMigrationRequest& request, Violations& violations, std::string& name) {
  const absl::StatusOr<std::string> made = MigrationNameOf(request.parent(), request.migration_id());
  if (!made.ok()) {
    violations.AddAll(made.status());
    return;
  }
  if (!name.empty() && name != *made) {
    violations.Add("name",
                   absl::StrCat("differs from the name made of parent and migration_id, \"", *made, "\""));
  }
  name = *made;
}

bool NamesEverything(const google::protobuf::FieldMask& mask) {
  return mask.paths_size() == 0 || (mask.paths_size() == 1 && mask.paths(0) == "*");
}

// Why a path can't be updated; empty if it can.
std::string WhyNotUpdatable(absl::string_view path) {
  if (FindUpdatable(path) != nullptr) return "";
  if (path == "*") return "\"*\" must stand alone";
  const absl::string_view top = path.substr(0, path.find('.'));
  const bool nested = top.size() != path.size();
  if (nested && FindUpdatable(top) != nullptr) {
    return absl::StrCat("'", path, "' is part of a field; '", top, "' can be replaced as a whole only");
  }
  if (v1::Migration::descriptor()->FindFieldByName(std::string(top)) == nullptr) {
    return absl::StrCat("'", path, "' is not a field of a migration");
  }
  if (top == "name" || top == "salt") return absl::StrCat("'", top, "' is immutable");
  return absl::StrCat("'", top, "' is output only");
}

void CheckMask(const google::protobuf::FieldMask& mask, const FieldPath& path, Violations& violations) {
  if (NamesEverything(mask)) return;
  for (int i = 0; i < mask.paths_size(); ++i) {
    const std::string why = WhyNotUpdatable(mask.paths(i));
    if (!why.empty()) violations.Add(path.At("paths", i), why);
  }
}

}  // namespace

v1::Migration ToProto(const domain::Migration& migration, const MigrationView& view) {
  v1::Migration out;
  out.set_name(migration.name);
  out.set_uid(migration.uid);
  out.set_etag(EtagOf(migration.version));
  out.set_description(migration.description);
  out.mutable_labels()->insert(migration.labels.begin(), migration.labels.end());
  for (const std::string& owner : migration.owners) out.add_owners(owner);
  out.set_salt(migration.salt);
  *out.mutable_plan() = ToProto(migration.plan);
  *out.mutable_contract() = ToProto(migration.contract);
  if (!migration.pins.empty()) *out.mutable_pins() = ToProto(migration.pins);
  out.set_run_state(ToProto(migration.run_state));
  out.set_run_state_reason(ToValidUtf8(migration.run_state_reason));
  if (migration.step >= 0) out.set_step(static_cast<uint32_t>(migration.step));
  SetTime(migration.step_started_at, out, &v1::Migration::mutable_step_start_time);
  *out.mutable_routing() = ToProto(migration.published);
  if (migration.pending.has_value()) *out.mutable_pending_routing() = ToProto(*migration.pending);
  SetTime(migration.pending_since, out, &v1::Migration::mutable_pending_since);
  for (const v1::FenceWait& wait : view.waiting_for) *out.add_waiting_for() = wait;
  out.set_waiting_for_count(static_cast<uint32_t>(view.waiting_for_count));
  out.set_differing_records(migration.differing_records);
  if (view.gate != nullptr) *out.mutable_gate() = ToProto(*view.gate, view.gate_time);
  SetTime(migration.create_time, out, &v1::Migration::mutable_create_time);
  SetTime(migration.update_time, out, &v1::Migration::mutable_update_time);
  if (const absl::Time deadline = domain::DeadlineOf(migration); deadline != absl::InfiniteFuture()) {
    *out.mutable_deadline_time() = ToProto(deadline);
  }
  out.set_reversible(domain::LadderRowOf(migration.published.stage).roll_back_to.has_value());
  return out;
}

absl::StatusOr<domain::Migration> MigrationFromProto(const v1::Migration& migration) {
  Violations violations;
  domain::Migration out = ReadDefinition(migration, violations);
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

absl::StatusOr<CreateRequest> CreateFromProto(const v1::CreateMigrationRequest& request) {
  Violations violations;
  const FieldPath root;
  CreateRequest out;
  if (!request.has_migration()) violations.Add(root / "migration", "is not set");
  if (request.has_migration()) out.migration = ReadDefinition(request.migration(), violations);
  CheckNewName(request, violations, out.migration.name);
  out.options.request_id = ReadRequestId(request.request_id(), root / "request_id", violations);
  out.options.validate_only = request.validate_only();
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

absl::StatusOr<UpdateRequest> UpdateFromProto(const v1::UpdateMigrationRequest& request) {
  Violations violations;
  const FieldPath root;
  const FieldPath migration = root / "migration";
  UpdateRequest out;
  CheckMigrationName(migration / "name", request.migration().name(), violations);
  out.name = request.migration().name();
  out.options.expected_version = ReadEtag(request.migration().etag(), migration / "etag", violations);
  out.options.request_id = ReadRequestId(request.request_id(), root / "request_id", violations);
  out.options.validate_only = request.validate_only();
  CheckMask(request.update_mask(), root / "update_mask", violations);
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  out.migration = request.migration();
  out.update_mask = request.update_mask();
  return out;
}

absl::Status ApplyUpdateMask(const google::protobuf::FieldMask& mask, const v1::Migration& from,
                             domain::Migration* to) {
  Violations violations;
  const FieldPath root;
  CheckMask(mask, root / "update_mask", violations);
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  const bool everything = NamesEverything(mask);
  domain::Migration updated = *to;
  bool concerns_plan = false;
  for (const UpdatableField& field : kUpdatableFields) {
    if (!everything && std::find(mask.paths().begin(), mask.paths().end(), field.name) == mask.paths().end())
      continue;
    field.read(from, updated, violations);
    concerns_plan = concerns_plan || field.concerns_plan;
  }
  if (concerns_plan) CheckPlan(updated.plan, updated.contract, violations);
  if (everything && !from.salt().empty() && from.salt() != to->salt) {
    violations.Add(root / "salt", absl::StrCat("is immutable; it is \"", to->salt, "\""));
  }
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  *to = std::move(updated);
  return absl::OkStatus();
}

storage::v1::MigrationRecord ToRecord(const domain::Migration& migration) {
  storage::v1::MigrationRecord out;
  *out.mutable_migration() = ToProto(migration);
  out.mutable_migration()->clear_etag();           // `version` says it
  out.mutable_migration()->clear_deadline_time();  // as deadline_from_time does
  out.mutable_migration()->clear_reversible();     // as the stage does
  for (const domain::RoutingState& state : migration.draining) *out.add_draining() = ToProto(state);
  out.set_version(migration.version);
  out.set_plan_revision(migration.plan_revision);
  out.set_decision_count(migration.decision_count);
  SetTime(migration.rolled_back_at, out, &storage::v1::MigrationRecord::mutable_rollback_time);
  SetTime(migration.deadline_from, out, &storage::v1::MigrationRecord::mutable_deadline_from_time);
  for (const std::string& check : migration.notified_checks) out.add_notified_checks(check);
  SetTime(migration.published_at, out, &storage::v1::MigrationRecord::mutable_published_time);
  out.set_accept_differences(migration.accept_differences);
  return out;
}

absl::StatusOr<domain::Migration> MigrationFromRecord(const storage::v1::MigrationRecord& record) {
  Violations violations;
  const FieldPath root;
  const v1::Migration& in = record.migration();
  const FieldPath path = root / "migration";
  domain::Migration out;
  out.name = in.name();
  CheckBytes(path / "name", out.name.size(), {.min = 1}, violations);
  out.uid = in.uid();
  out.description = in.description();
  out.labels = {in.labels().begin(), in.labels().end()};
  out.owners = {in.owners().begin(), in.owners().end()};
  out.salt = in.salt();
  out.plan = ReadPlan(in.plan(), path / "plan", violations);
  out.plan_revision = record.plan_revision();
  out.contract = ReadContract(in.contract(), path / "contract", violations);
  out.pins = ReadPins(in.pins(), path / "pins", violations);
  out.run_state = ReadEnum(in.run_state(), path / "run_state", violations);
  out.run_state_reason = in.run_state_reason();
  if (in.has_step() && in.step() >= out.plan.steps.size()) {
    violations.Add(path / "step",
                   absl::StrCat(in.step(), "; the plan has ", out.plan.steps.size(), " steps"));
  } else if (in.has_step()) {
    out.step = static_cast<int>(in.step());
  }
  out.step_started_at =
      ReadOptionalTime(in.has_step_start_time(), in.step_start_time(), path / "step_start_time", violations);
  out.rolled_back_at = ReadOptionalTime(record.has_rollback_time(), record.rollback_time(),
                                        root / "rollback_time", violations);
  out.deadline_from = ReadOptionalTime(record.has_deadline_from_time(), record.deadline_from_time(),
                                       root / "deadline_from_time", violations);
  out.accept_differences = record.accept_differences();
  out.differing_records = in.differing_records();
  out.notified_checks = {record.notified_checks().begin(), record.notified_checks().end()};
  out.published_at = ReadOptionalTime(record.has_published_time(), record.published_time(),
                                      root / "published_time", violations);
  out.published = ReadRoutingState(in.routing(), path / "routing", violations);
  if (in.has_pending_routing()) {
    out.pending = ReadRoutingState(in.pending_routing(), path / "pending_routing", violations);
  }
  out.pending_since =
      ReadOptionalTime(in.has_pending_since(), in.pending_since(), path / "pending_since", violations);
  for (int i = 0; i < record.draining_size(); ++i) {
    out.draining.push_back(ReadRoutingState(record.draining(i), root.At("draining", i), violations));
  }
  out.create_time =
      ReadOptionalTime(in.has_create_time(), in.create_time(), path / "create_time", violations);
  out.update_time =
      ReadOptionalTime(in.has_update_time(), in.update_time(), path / "update_time", violations);
  out.version = record.version();
  out.decision_count = record.decision_count();
  LOCKSTEP_RETURN_IF_ERROR(violations.ToStatus());
  return out;
}

}  // namespace lockstep::wire
