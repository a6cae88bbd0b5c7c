//! Boots the board and reports its clock.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[cortex_m_rt::entry]
fn main() -> ! {
    use firmware::board::{Board, mps2};
    let mut board = match mps2::Mps2::take() {
        Ok(board) => board,
        Err(mode) => {
            defmt::error!("refusing to move: floating-point mode {}", mode);
            mps2::exit(false)
        }
    };
    let start = board.now();
    cortex_m::asm::delay(1000);
    let instructions = (board.now() - start) * mps2::INSTRUCTIONS_PER_COUNT;
    defmt::println!(
        "{=str}: a delay of 1000 cycles takes {=u64} instructions",
        mps2::NAME,
        instructions
    );
    mps2::exit(true)
}

#[cfg(not(target_os = "none"))]
fn main() {}
