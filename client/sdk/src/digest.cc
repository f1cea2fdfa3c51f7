#include "lockstep/internal/digest.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/base/check.h"

namespace lockstep::internal {
namespace {

constexpr size_t kDigestBytes = 16;

using Digest = std::array<unsigned char, EVP_MAX_MD_SIZE>;

Digest Hmac(absl::string_view key, absl::string_view purpose, absl::string_view value) {
  const std::string message = absl::StrCat(purpose, absl::string_view("\0", 1), value);
  Digest digest;
  unsigned int length = 0;
  const unsigned char* const made =
      HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
           reinterpret_cast<const unsigned char*>(message.data()), message.size(), digest.data(), &length);
  LOCKSTEP_CHECK(made != nullptr && length >= kDigestBytes, "HMAC-SHA256 is always available");
  return digest;
}

}  // namespace

std::string KeyedDigest(absl::string_view key, absl::string_view purpose, absl::string_view value) {
  const Digest digest = Hmac(key, purpose, value);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest.data()), kDigestBytes));
}

uint64_t KeyedId(absl::string_view key, absl::string_view purpose, absl::string_view value) {
  const Digest digest = Hmac(key, purpose, value);
  uint64_t id = 0;
  for (size_t i = 0; i < sizeof(id); ++i) id = id << 8 | digest[i];
  return id;
}

std::string KeyFromSalt(uint64_t salt_seed) {
  return absl::StrCat("lockstep mismatch sample v1 ", salt_seed);
}

}  // namespace lockstep::internal
