#include "core/wire/page.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/domain/bucketing.h"
#include "core/wire/violations.h"

namespace lockstep::wire {
namespace {

// Token, before base64url: version, 8 bytes of hash over scope and position, position.
constexpr char kTokenVersion = 1;
constexpr size_t kHashBytes = 8;
constexpr size_t kMaxPositionBytes = 1024;
// 4/3 of the bytes above, rounded up.
constexpr size_t kMaxTokenBytes = 1400;

bool IsPosition(absl::string_view position) {
  return !position.empty() && position.size() <= kMaxPositionBytes &&
         std::all_of(position.begin(), position.end(),
                     [](unsigned char c) { return absl::ascii_isprint(c); });
}

absl::Status Refusal(absl::string_view field, absl::string_view description) {
  Violations violations;
  violations.Add(std::string(field), description);
  return violations.ToStatus();
}

}  // namespace

absl::StatusOr<int32_t> ReadPageSize(int32_t page_size) {
  if (page_size == 0) return kDefaultPageSize;
  if (page_size < 0) return Refusal("page_size", absl::StrCat(page_size, " is negative"));
  if (page_size > kMaxPageSize) {
    return Refusal("page_size",
                   absl::StrCat(page_size, " is too large; at most ", kMaxPageSize, " are allowed"));
  }
  return page_size;
}

PageScope::PageScope(absl::string_view method, absl::string_view parent)
    : seed_(domain::KeyHash(domain::SaltSeed(method), parent)) {}

std::string PageScope::Encode(absl::string_view position) const {
  const uint64_t hash = domain::KeyHash(seed_, position);
  std::string bytes(1, kTokenVersion);
  for (size_t i = 0; i < kHashBytes; ++i) bytes.push_back(static_cast<char>(hash >> (8 * i)));
  absl::StrAppend(&bytes, position);
  return bytes;
}

std::string PageScope::TokenFor(absl::string_view position) const {
  LOCKSTEP_CHECK(IsPosition(position), "a page's position is short printable ASCII");
  return absl::WebSafeBase64Escape(Encode(position));
}

absl::StatusOr<std::string> PageScope::PositionOf(absl::string_view token) const {
  if (token.empty()) return std::string();
  std::string bytes;
  if (token.size() <= kMaxTokenBytes && absl::WebSafeBase64Unescape(token, &bytes) &&
      bytes.size() > 1 + kHashBytes) {
    std::string position = bytes.substr(1 + kHashBytes);
    if (IsPosition(position) && bytes == Encode(position)) return position;
  }
  return Refusal(
      "page_token",
      "was not given out for this list; send the next_page_token of the previous page with the same parent, "
      "or none to start over");
}

}  // namespace lockstep::wire
