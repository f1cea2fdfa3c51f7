// A certificate for both ends of the benchmark's mutual TLS, made anew by every run and trusted by nobody
// else.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lockstep::bench {

// Makes a key and a certificate signed with it in `directory`, with the openssl command.
absl::Status MakeCertificate(const std::string& directory);

// Of what MakeCertificate left in `directory`; without encryption when that is empty. The server requires a
// certificate of the client, and each end verifies the other's.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ServerCredentialsOf(const std::string& directory);
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> ChannelCredentialsOf(const std::string& directory);

}  // namespace lockstep::bench
