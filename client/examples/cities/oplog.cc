#include "client/examples/cities/oplog.h"

#include <rapidjson/document.h>
#include <rapidjson/error/en.h>

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/examples/cities/files.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/prng.h"
#include "core/base/status_macros.h"

namespace lockstep::examples {
namespace {

std::string FormatOperation(const Operation& operation) {
  const City& city = operation.city;
  return absl::StrCat("{\"seq\":", operation.sequence, ",\"op\":\"", OperationKindName(operation.kind),
                      "\",\"id\":", city.id, ",\"name\":", JsonQuote(city.name),
                      ",\"lat\":", JsonQuote(city.lat), ",\"lng\":", JsonQuote(city.lng),
                      ",\"country\":", JsonQuote(city.country), ",\"admin1\":", JsonQuote(city.admin1)) +
         absl::StrCat(",\"admin2\":", JsonQuote(city.admin2), "}\n");
}

absl::Status ReadInt64(const rapidjson::Value& object, const char* field, int64_t* into) {
  const auto member = object.FindMember(field);
  if (member == object.MemberEnd() || !member->value.IsInt64()) {
    return absl::InvalidArgumentError(absl::StrCat("\"", field, "\" is missing or no integer"));
  }
  *into = member->value.GetInt64();
  return absl::OkStatus();
}

absl::Status ReadText(const rapidjson::Value& object, const char* field, std::string* into) {
  const auto member = object.FindMember(field);
  if (member == object.MemberEnd() || !member->value.IsString()) {
    return absl::InvalidArgumentError(absl::StrCat("\"", field, "\" is missing or no text"));
  }
  into->assign(member->value.GetString(), member->value.GetStringLength());
  return absl::OkStatus();
}

absl::StatusOr<Operation> ParseOperation(absl::string_view line) {
  rapidjson::Document document;
  document.Parse<rapidjson::kParseValidateEncodingFlag>(line.data(), line.size());
  if (document.HasParseError()) {
    return absl::InvalidArgumentError(absl::StrCat("byte ", document.GetErrorOffset(), ": ",
                                                   rapidjson::GetParseError_En(document.GetParseError())));
  }
  if (!document.IsObject()) return absl::InvalidArgumentError("not a JSON object");
  Operation operation;
  City& city = operation.city;
  std::string kind;
  LOCKSTEP_RETURN_IF_ERROR(ReadInt64(document, "seq", &operation.sequence));
  LOCKSTEP_RETURN_IF_ERROR(ReadText(document, "op", &kind));
  LOCKSTEP_RETURN_IF_ERROR(ReadInt64(document, "id", &city.id));
  LOCKSTEP_RETURN_IF_ERROR(ReadText(document, "name", &city.name));
  LOCKSTEP_RETURN_IF_ERROR(ReadText(document, "lat", &city.lat));
  LOCKSTEP_RETURN_IF_ERROR(ReadText(document, "lng", &city.lng));
  LOCKSTEP_RETURN_IF_ERROR(ReadText(document, "country", &city.country));
  LOCKSTEP_RETURN_IF_ERROR(ReadText(document, "admin1", &city.admin1));
  LOCKSTEP_RETURN_IF_ERROR(ReadText(document, "admin2", &city.admin2));
  const std::optional<OperationKind> parsed = ParseOperationKind(kind);
  if (!parsed.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("op is ", JsonQuote(kind), ", want \"insert\", \"update\" or \"delete\""));
  }
  operation.kind = *parsed;
  return operation;
}

}  // namespace

absl::string_view OperationKindName(OperationKind kind) {
  switch (kind) {
    case OperationKind::kInsert:
      return "insert";
    case OperationKind::kUpdate:
      return "update";
    case OperationKind::kDelete:
      return "delete";
  }
  return "";
}

std::optional<OperationKind> ParseOperationKind(absl::string_view text) {
  for (const OperationKind kind : {OperationKind::kInsert, OperationKind::kUpdate, OperationKind::kDelete}) {
    if (text == OperationKindName(kind)) return kind;
  }
  return std::nullopt;
}

std::vector<Operation> ShuffleOperations(std::vector<Operation> operations, uint64_t seed) {
  // Shuffles the ids, one for each operation, then deals every id its operations in their old order.
  std::vector<int64_t> slots;
  absl::flat_hash_map<int64_t, std::vector<size_t>> of_id;
  for (size_t i = operations.size(); i > 0; --i) {
    const int64_t id = operations[i - 1].city.id;
    slots.push_back(id);
    of_id[id].push_back(i - 1);  // latest first, so that the next to deal is at the back
  }
  Prng prng(seed);
  for (size_t i = slots.size(); i > 1; --i) std::swap(slots[i - 1], slots[prng.Below(i)]);

  std::vector<Operation> shuffled;
  shuffled.reserve(slots.size());
  for (const int64_t id : slots) {
    std::vector<size_t>& waiting = of_id[id];
    shuffled.push_back(std::move(operations[waiting.back()]));
    waiting.pop_back();
    shuffled.back().sequence = static_cast<int64_t>(shuffled.size()) - 1;
  }
  return shuffled;
}

std::vector<std::vector<Operation>> PartitionOperations(const std::vector<Operation>& operations,
                                                        int shards) {
  LOCKSTEP_CHECK(shards > 0, "a log needs somebody to replay it");
  std::vector<std::vector<Operation>> parts(static_cast<size_t>(shards));
  for (const Operation& operation : operations) {
    parts[static_cast<uint64_t>(operation.city.id) % parts.size()].push_back(operation);
  }
  return parts;
}

std::string ShardFileName(int shard, int shards) {
  return absl::StrCat("oplog-", shard, "-of-", shards, ".jsonl");
}

absl::Status WriteOperationLog(const std::string& path, const std::vector<Operation>& operations) {
  std::string content;
  for (const Operation& operation : operations) content += FormatOperation(operation);
  return WriteFile(path, content);
}

absl::StatusOr<std::vector<Operation>> ReadOperationLog(const std::string& path) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string content, ReadFile(path));
  std::vector<Operation> operations;
  int64_t line_number = 0;
  for (const absl::string_view line : absl::StrSplit(content, '\n')) {
    ++line_number;
    if (line.empty()) continue;  // after the last newline
    auto operation = ParseOperation(line);
    if (!operation.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": line ", line_number, ": ", operation.status().message()));
    }
    operations.push_back(*std::move(operation));
  }
  return operations;
}

}  // namespace lockstep::examples
