// What `-o table` and `-o wide` show: pure functions from messages to text. Lines end with a line break.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/cli/table.h"
#include "client/cli/terminal.h"
#include "core/base/error_info.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/timestamp.pb.h"
#include "lockstep/v1/migration.pb.h"
#include "lockstep/v1/migration_service.pb.h"
#include "lockstep/v1/routing_service.pb.h"

namespace lockstep::cli {

struct RenderOptions {
  Style style;
  absl::Time now;     // ages are relative to it
  bool wide = false;  // more columns, and the evidence behind each check
};

// "2026-01-31 09:00:00".
std::string UtcTime(const google::protobuf::Timestamp& time);
// How long ago: "1m40s".
std::string Age(const google::protobuf::Timestamp& time, absl::Time now);
// As in migration files: every enum but the stage in lower case.
std::string LowerNameOf(const google::protobuf::EnumDescriptor& type, int value);
// "✓ ADVANCE".
Cell VerdictCell(v1::Verdict verdict, const Style& style);
std::string PaintCell(const Cell& cell, const Style& style);

// "CANARY_READ 5 %"; the weights that mean something at that stage.
std::string DescribeRouting(const v1::RoutingState& state);

// "those from 10 % to 15 %": the keys whose writes are held; empty if there are none.
std::string DescribeHeldSlice(const v1::RoutingState& state);

// One line per migration.
std::string RenderMigrations(const std::vector<v1::Migration>& migrations, const RenderOptions& options);

// Header, gate, plan as a tree with the current step's checks, guards, pending publish, instances.
std::string RenderMigration(const v1::Migration& migration, const std::vector<v1::Instance>& instances,
                            const RenderOptions& options);

std::string RenderDecisions(const std::vector<v1::DecisionRecord>& decisions, const RenderOptions& options);
std::string RenderMismatches(const std::vector<v1::MismatchSample>& samples, const RenderOptions& options);

// What happens to one key, and why.
std::string RenderRoute(absl::string_view migration, absl::string_view key, const v1::RouteResponse& response,
                        const RenderOptions& options);

// What a refused change waits for, as a table; empty when the refusal names nothing.
std::string RenderPreconditions(const ErrorInfo& info, const Style& style);

}  // namespace lockstep::cli
