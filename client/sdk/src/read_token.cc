#include "lockstep/read_token.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/domain/bucketing.h"

namespace lockstep {
namespace {

constexpr absl::string_view kFormat = "ls1";

std::string Checked(absl::string_view text) {
  const auto check = static_cast<uint32_t>(domain::SaltSeed(text));
  return absl::StrCat(text, ".", absl::Hex(check, absl::kZeroPad8));
}

}  // namespace

std::string ReadToken::ToString() const {
  return Checked(absl::StrCat(kFormat, ".", authoritative == domain::Side::kNew ? "new" : "old", ".", version,
                              ".", mirrored ? "mirrored" : "open", ".", epoch));
}

absl::StatusOr<ReadToken> ReadToken::Parse(absl::string_view text) {
  ReadToken token;
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '.');
  // What is read back must be written the same: that leaves one spelling for each token, and covers the
  // checksum.
  if (parts.size() == 6 && absl::SimpleAtoi(parts[2], &token.version) &&
      absl::SimpleAtoi(parts[4], &token.epoch)) {
    token.authoritative = parts[1] == "new" ? domain::Side::kNew : domain::Side::kOld;
    token.mirrored = parts[3] == "mirrored";
    if (token.ToString() == text) return token;
  }
  return absl::InvalidArgumentError(
      "not a read token: pass on what ReadToken::ToString() gave, unchanged, or leave ReadOptions::after "
      "empty");
}

}  // namespace lockstep
