#include "tests/bench/bench_certificates.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <fstream>
#include <sstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

extern char** environ;

namespace lockstep::bench {
namespace {

constexpr char kKeyFile[] = "/key.pem";
constexpr char kCertificateFile[] = "/certificate.pem";

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) return absl::NotFoundError(absl::StrCat("can't read ", path));
  return text.str();
}

// What the command prints is of interest to nobody as long as it succeeds.
absl::Status RunQuietly(std::vector<std::string> command) {
  std::vector<char*> argv;
  for (std::string& word : command) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return absl::ErrnoToStatus(error, absl::StrCat("can't run ", command[0]));
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0) return absl::InternalError(absl::StrCat(command[0], " failed"));
  return absl::OkStatus();
}

}  // namespace

absl::Status MakeCertificate(const std::string& directory) {
  return RunQuietly({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                     "-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext",
                     "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout",
                     absl::StrCat(directory, kKeyFile), "-out", absl::StrCat(directory, kCertificateFile)});
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ServerCredentialsOf(const std::string& directory) {
  if (directory.empty()) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions options(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  LOCKSTEP_ASSIGN_OR_RETURN(options.pem_root_certs, ReadFile(absl::StrCat(directory, kCertificateFile)));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string key, ReadFile(absl::StrCat(directory, kKeyFile)));
  options.pem_key_cert_pairs.push_back({key, options.pem_root_certs});
  return grpc::SslServerCredentials(options);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> ChannelCredentialsOf(const std::string& directory) {
  if (directory.empty()) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions options;
  LOCKSTEP_ASSIGN_OR_RETURN(options.pem_root_certs, ReadFile(absl::StrCat(directory, kCertificateFile)));
  LOCKSTEP_ASSIGN_OR_RETURN(options.pem_private_key, ReadFile(absl::StrCat(directory, kKeyFile)));
  options.pem_cert_chain = options.pem_root_certs;
  return grpc::SslCredentials(options);
}

}  // namespace lockstep::bench
