// Enums of the API and of the domain, in both directions.
#pragma once

#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/domain/contract.h"
#include "core/domain/decision.h"
#include "core/domain/gate.h"
#include "core/domain/ladder.h"
#include "core/domain/migration.h"
#include "core/domain/plan.h"
#include "core/domain/records.h"
#include "core/domain/routing_state.h"
#include "core/domain/window_stats.h"
#include "core/wire/violations.h"
#include "google/protobuf/generated_enum_reflection.h"
#include "lockstep/v1/migration.pb.h"
#include "lockstep/v1/routing_service.pb.h"
#include "lockstep/v1/telemetry_service.pb.h"

namespace lockstep::wire {

v1::Stage ToProto(domain::Stage stage);
v1::Side ToProto(domain::Side side);
v1::Metric ToProto(domain::Metric metric);
v1::BreachAction ToProto(domain::BreachAction action);
v1::ListOrder ToProto(domain::ListOrder order);
v1::RunState ToProto(domain::RunState state);
v1::Verdict ToProto(domain::Verdict verdict);
v1::WriteMode ToProto(domain::WriteMode mode);
v1::DecisionReason ToProto(domain::DecisionReason reason);
v1::ComparisonOutcome ToProto(domain::ComparisonOutcome outcome);
v1::MismatchKind ToProto(domain::MismatchKind kind);
v1::LeasePolicy ToProto(domain::LeasePolicy policy);

// nullopt for numbers this version doesn't know and for UNSPECIFIED, save where it has a meaning: a
// BreachAction then is kRollback, a ListOrder kOrdered, a LeasePolicy kKeepServing.
std::optional<domain::Stage> EnumFromProto(v1::Stage stage);
std::optional<domain::Side> EnumFromProto(v1::Side side);
std::optional<domain::Metric> EnumFromProto(v1::Metric metric);
std::optional<domain::BreachAction> EnumFromProto(v1::BreachAction action);
std::optional<domain::ListOrder> EnumFromProto(v1::ListOrder order);
std::optional<domain::RunState> EnumFromProto(v1::RunState state);
std::optional<domain::Verdict> EnumFromProto(v1::Verdict verdict);
std::optional<domain::WriteMode> EnumFromProto(v1::WriteMode mode);
std::optional<domain::DecisionReason> EnumFromProto(v1::DecisionReason reason);
std::optional<domain::ComparisonOutcome> EnumFromProto(v1::ComparisonOutcome outcome);
std::optional<domain::MismatchKind> EnumFromProto(v1::MismatchKind kind);
std::optional<domain::LeasePolicy> EnumFromProto(v1::LeasePolicy policy);

// "99 is not a Stage; known are STAGE_OFF, ...", or that a value is missing.
std::string UnknownEnumMessage(const google::protobuf::EnumDescriptor* descriptor, int value);

// As EnumFromProto; instead of nullopt, a violation at `path` and the domain enum's first value.
template <typename ProtoEnum>
auto ReadEnum(ProtoEnum value, const FieldPath& path, Violations& violations) {
  const auto known = EnumFromProto(value);
  if (!known.has_value()) {
    violations.Add(path, UnknownEnumMessage(google::protobuf::GetEnumDescriptor<ProtoEnum>(), value));
  }
  return known.value_or(typename decltype(known)::value_type{});
}

}  // namespace lockstep::wire
