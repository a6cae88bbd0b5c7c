// Found only where there is no libtorch yet: it comes last in the compiler's search, see config.toml.
#error "There is no libtorch yet: run `cargo xtask setup` first."
#include "stop here, without a thousand errors more"
