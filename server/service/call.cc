#include "server/service/call.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/wire/status.h"

namespace lockstep::service {
namespace {

constexpr size_t kMostPrincipalBytes = 256;

}  // namespace

engine::Principal PrincipalOf(const grpc::CallbackServerContext& context) {
  const auto& metadata = context.client_metadata();
  std::string name;
  if (const auto found = metadata.find(kPrincipalMetadataKey); found != metadata.end()) {
    for (const char c : absl::string_view(found->second.data(), found->second.size())) {
      if (name.size() == kMostPrincipalBytes) break;
      if (absl::ascii_isprint(static_cast<unsigned char>(c))) name += c;
    }
  }
  if (name.empty()) name = absl::StrCat("anonymous@", context.peer());
  return engine::Principal{name};
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), wire::WireMessage(status),
                      wire::StatusDetails(status));
}

}  // namespace lockstep::service
