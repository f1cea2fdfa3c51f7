// Every table of the store and the encoding of its keys, in one place.
//
// A key is a sequence of parts. Text parts are names without NUL bytes and end with one NUL (the last part of
// a key has none), so `ns/a` can't run into `ns/ab`. Numbers are 8 bytes, big-endian. Keys of a table
// therefore sort by their parts from left to right, and everything that shares leading parts is one range.
//
// Migration names are full resource names, `namespaces/{ns}/migrations/{id}`. Names reach this layer
// validated (core/wire): a NUL in one is a bug and aborts.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace lockstep::store {

enum class Table {
  kMeta,
  kMigrations,
  kDecisions,
  kAudit,
  kInstances,
  kTelemetrySequences,
  kWindows,
  kSamples,
  kRequests,
  kDefinitions,
};

struct TableInfo {
  Table table;
  absl::string_view name;  // on disk: never change one
  absl::string_view meaning;
  absl::string_view key;
};

inline constexpr std::array<TableInfo, 10> kTables = {{
    {Table::kMeta, "meta", "single values of the control plane, such as the head of the audit chain", "name"},
    {Table::kMigrations, "migrations", "each migration with its plan, contract and state", "migration"},
    {Table::kDecisions, "decisions", "decision records, replayable", "migration, sequence"},
    {Table::kAudit, "audit", "hash-chained audit entries", "sequence"},
    {Table::kInstances, "instances", "enrolled instances and the epochs they acknowledged", "instance"},
    {Table::kTelemetrySequences, "telemetry_sequences", "which telemetry batches of an instance are counted",
     "instance"},
    {Table::kWindows, "windows", "merged evidence per time bucket",
     "migration, generation, bucket start in s"},
    {Table::kSamples, "samples", "mismatch samples per fingerprint",
     "migration, generation, fingerprint, sequence"},
    {Table::kRequests, "requests", "first answers by request id, for repeats", "request id"},
    {Table::kDefinitions, "definitions", "plan and contract as each decision that changed them left them",
     "migration, sequence of the decision"},
}};

absl::string_view TableName(Table table);

// [start, end) of keys, as Store::Scan takes them; an empty end is the end of the table.
struct KeyRange {
  std::string start;
  std::string end;

  friend bool operator==(const KeyRange&, const KeyRange&) = default;
};

// All keys that begin with `prefix`; the whole table for an empty one.
KeyRange PrefixRange(absl::string_view prefix);

std::string MetaKey(absl::string_view name);

std::string MigrationKey(absl::string_view migration);
// `parent` is `namespaces/{ns}`.
KeyRange MigrationsOfNamespace(absl::string_view parent);

std::string DecisionKey(absl::string_view migration, uint64_t sequence);
KeyRange DecisionsOf(absl::string_view migration);

std::string DefinitionKey(absl::string_view migration, uint64_t decision);
// Those of decisions up to and including `last_decision`.
KeyRange DefinitionsUpTo(absl::string_view migration, uint64_t last_decision);

std::string AuditKey(uint64_t sequence);

std::string InstanceKey(absl::string_view instance);
std::string TelemetrySequenceKey(absl::string_view instance);

std::string WindowKey(absl::string_view migration, uint64_t generation, uint64_t bucket_start_seconds);
KeyRange WindowsOf(absl::string_view migration);
// Buckets that start in [from_seconds, to_seconds).
KeyRange WindowsBetween(absl::string_view migration, uint64_t generation, uint64_t from_seconds,
                        uint64_t to_seconds);

std::string SampleKey(absl::string_view migration, uint64_t generation, uint64_t fingerprint,
                      uint64_t sequence);
KeyRange SamplesOf(absl::string_view migration);
KeyRange SamplesOf(absl::string_view migration, uint64_t generation);

std::string RequestKey(absl::string_view request_id);

// The reverse of the keys above. nullopt: the bytes are not such a key, which means damaged data.
struct DecisionKeyParts {
  std::string migration;
  uint64_t sequence = 0;

  friend bool operator==(const DecisionKeyParts&, const DecisionKeyParts&) = default;
};
std::optional<DecisionKeyParts> ParseDecisionKey(absl::string_view key);

std::optional<uint64_t> ParseAuditKey(absl::string_view key);

struct WindowKeyParts {
  std::string migration;
  uint64_t generation = 0;
  uint64_t bucket_start_seconds = 0;

  friend bool operator==(const WindowKeyParts&, const WindowKeyParts&) = default;
};
std::optional<WindowKeyParts> ParseWindowKey(absl::string_view key);

struct SampleKeyParts {
  std::string migration;
  uint64_t generation = 0;
  uint64_t fingerprint = 0;
  uint64_t sequence = 0;

  friend bool operator==(const SampleKeyParts&, const SampleKeyParts&) = default;
};
std::optional<SampleKeyParts> ParseSampleKey(absl::string_view key);

}  // namespace lockstep::store
