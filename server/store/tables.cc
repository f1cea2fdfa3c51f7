#include "server/store/tables.h"

#include <initializer_list>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "server/store/big_endian.h"

namespace lockstep::store {
namespace {

constexpr char kEndOfText = '\0';

std::string Text(absl::string_view text) {
  LOCKSTEP_CHECK(!text.empty() && text.find(kEndOfText) == absl::string_view::npos,
                 "a key part must be a validated name");
  return std::string(text);
}

std::string Prefix(absl::string_view text, std::initializer_list<uint64_t> numbers = {}) {
  std::string key = Text(text);
  key.push_back(kEndOfText);
  for (uint64_t number : numbers) AppendBigEndian64(&key, number);
  return key;
}

struct TextAndNumbers {
  std::string text;
  absl::string_view numbers;

  uint64_t operator[](size_t index) const {
    return ReadBigEndian64(numbers.substr(index * kBigEndian64Bytes));
  }
};

std::optional<TextAndNumbers> Split(absl::string_view key, size_t count) {
  const size_t end = key.find(kEndOfText);
  if (end == 0 || end == absl::string_view::npos) return std::nullopt;
  const absl::string_view numbers = key.substr(end + 1);
  if (numbers.size() != count * kBigEndian64Bytes) return std::nullopt;
  return TextAndNumbers{std::string(key.substr(0, end)), numbers};
}

}  // namespace

absl::string_view TableName(Table table) {
  const TableInfo& info = kTables[static_cast<size_t>(table)];
  LOCKSTEP_CHECK(info.table == table, "kTables is in the order of the enum");
  return info.name;
}

KeyRange PrefixRange(absl::string_view prefix) {
  std::string end(prefix);
  while (!end.empty() && end.back() == '\xff') end.pop_back();
  if (!end.empty()) end.back() = static_cast<char>(static_cast<unsigned char>(end.back()) + 1);
  return {std::string(prefix), std::move(end)};
}

std::string MetaKey(absl::string_view name) { return Text(name); }

std::string MigrationKey(absl::string_view migration) { return Text(migration); }
KeyRange MigrationsOfNamespace(absl::string_view parent) {
  return PrefixRange(absl::StrCat(Text(parent), "/migrations/"));
}

std::string DecisionKey(absl::string_view migration, uint64_t sequence) {
  return Prefix(migration, {sequence});
}
KeyRange DecisionsOf(absl::string_view migration) { return PrefixRange(Prefix(migration)); }

std::string DefinitionKey(absl::string_view migration, uint64_t decision) {
  return Prefix(migration, {decision});
}
KeyRange DefinitionsUpTo(absl::string_view migration, uint64_t last_decision) {
  return {Prefix(migration), DefinitionKey(migration, last_decision + 1)};
}

std::string AuditKey(uint64_t sequence) {
  std::string key;
  AppendBigEndian64(&key, sequence);
  return key;
}

std::string InstanceKey(absl::string_view instance) { return Text(instance); }
std::string TelemetrySequenceKey(absl::string_view instance) { return Text(instance); }

std::string WindowKey(absl::string_view migration, uint64_t generation, uint64_t bucket_start_seconds) {
  return Prefix(migration, {generation, bucket_start_seconds});
}
KeyRange WindowsOf(absl::string_view migration) { return PrefixRange(Prefix(migration)); }
KeyRange WindowsBetween(absl::string_view migration, uint64_t generation, uint64_t from_seconds,
                        uint64_t to_seconds) {
  return {WindowKey(migration, generation, from_seconds), WindowKey(migration, generation, to_seconds)};
}

std::string SampleKey(absl::string_view migration, uint64_t generation, uint64_t fingerprint,
                      uint64_t sequence) {
  return Prefix(migration, {generation, fingerprint, sequence});
}
KeyRange SamplesOf(absl::string_view migration) { return PrefixRange(Prefix(migration)); }
KeyRange SamplesOf(absl::string_view migration, uint64_t generation) {
  return PrefixRange(Prefix(migration, {generation}));
}

std::string RequestKey(absl::string_view request_id) { return Text(request_id); }

std::optional<DecisionKeyParts> ParseDecisionKey(absl::string_view key) {
  const std::optional<TextAndNumbers> parts = Split(key, 1);
  if (!parts) return std::nullopt;
  return DecisionKeyParts{parts->text, (*parts)[0]};
}

std::optional<uint64_t> ParseAuditKey(absl::string_view key) {
  if (key.size() != kBigEndian64Bytes) return std::nullopt;
  return ReadBigEndian64(key);
}

std::optional<WindowKeyParts> ParseWindowKey(absl::string_view key) {
  const std::optional<TextAndNumbers> parts = Split(key, 2);
  if (!parts) return std::nullopt;
  return WindowKeyParts{parts->text, (*parts)[0], (*parts)[1]};
}

std::optional<SampleKeyParts> ParseSampleKey(absl::string_view key) {
  const std::optional<TextAndNumbers> parts = Split(key, 3);
  if (!parts) return std::nullopt;
  return SampleKeyParts{parts->text, (*parts)[0], (*parts)[1], (*parts)[2]};
}

}  // namespace lockstep::store
