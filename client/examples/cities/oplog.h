// A log of write operations to replay as live traffic, and its division over service processes.
//
// On disk a log is one JSON object a line:
//   {"seq":17,"op":"update","id":4711,"name":"Ordino","lat":"42.55623","lng":"1.53319","country":"AD","admin1":"05","admin2":""}
// A delete carries the row as it was.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/examples/cities/city.h"

namespace lockstep::examples {

enum class OperationKind { kInsert, kUpdate, kDelete };

struct Operation {
  // Position in the whole log, from 0: unique over all shards, so it also makes an idempotency key.
  int64_t sequence = 0;
  OperationKind kind = OperationKind::kInsert;
  City city;

  bool operator==(const Operation&) const = default;
};

// "insert", "update" and "delete".
absl::string_view OperationKindName(OperationKind kind);
std::optional<OperationKind> ParseOperationKind(absl::string_view text);

// The same operations in an order drawn from `seed`, except that those of one id keep theirs; numbers them
// anew.
std::vector<Operation> ShuffleOperations(std::vector<Operation> operations, uint64_t seed);

// Divides a log over `shards` (> 0) processes by id modulo `shards`: all operations on one id go to one
// shard, in the log's order.
std::vector<std::vector<Operation>> PartitionOperations(const std::vector<Operation>& operations, int shards);

// The log of one process: "oplog-0-of-3.jsonl".
std::string ShardFileName(int shard, int shards);

// Replaces the file at once: a reader sees all of it or none.
absl::Status WriteOperationLog(const std::string& path, const std::vector<Operation>& operations);

// NOT_FOUND when there is no such file; INVALID_ARGUMENT, naming file and line, when a line is not as above.
absl::StatusOr<std::vector<Operation>> ReadOperationLog(const std::string& path);

}  // namespace lockstep::examples
