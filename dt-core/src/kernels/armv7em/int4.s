@ The inner loops of `int4.rs`, which has the register and memory diagrams. `dt_scale` comes from `armv7em.s`.

@ ---- four columns of both rows ---------------------------------------------------------------

@ Two columns, one token: \v = 16·b + u, \u = u = a + 8.
.macro dt_int4_pair both, low, v, u, x
    smlad   \both, \v, \x, \both
    smlad   \low, \u, \x, \low
.endm

@ Three tokens: 19 instructions, 24 products.
.macro dt_int4_word_3
    ldr     r8, [r0], #4
    sxtb16  r9, r8
    dt_int4_columns_3
    sxtb16  r9, r8, ror #8
    dt_int4_columns_3
.endm

.macro dt_int4_columns_3
    and     r10, r9, #0x000f000f
    ldm     r1!, {r11, r12, lr}
    dt_int4_pair r2, r3, r9, r10, r11
    dt_int4_pair r4, r5, r9, r10, r12
    dt_int4_pair r6, r7, r9, r10, lr
.endm

@ Two tokens: 14 instructions, 16 products.
.macro dt_int4_word_2
    ldr     r6, [r0], #4
    ldm     r1!, {r8-r11}
    sxtb16  r12, r6
    sxtb16  lr, r6, ror #8
    and     r6, r12, #0x000f000f
    dt_int4_pair r2, r3, r12, r6, r8
    dt_int4_pair r4, r5, r12, r6, r9
    and     r6, lr, #0x000f000f
    dt_int4_pair r2, r3, lr, r6, r10
    dt_int4_pair r4, r5, lr, r6, r11
.endm

@ One token: 10 instructions, 8 products.
.macro dt_int4_word_1
    ldr     r4, [r0], #4
    ldrd    r8, r9, [r1], #8
    dt_int4_decoded_1 r4, r8, r9
.endm

.macro dt_int4_decoded_1 word, x_lo, x_hi
    sxtb16  r12, \word
    sxtb16  lr, \word, ror #8
    and     \word, r12, #0x000f000f
    dt_int4_pair r2, r3, r12, \word, \x_lo
    and     \word, lr, #0x000f000f
    dt_int4_pair r2, r3, lr, \word, \x_hi
.endm

@ One token, two words: 18 instructions, 16 products.
.macro dt_int4_two_words_1
    ldrd    r4, r5, [r0], #8
    ldm     r1!, {r8-r11}
    dt_int4_decoded_1 r4, r8, r9
    dt_int4_decoded_1 r5, r10, r11
.endm

@ ---- one group of columns --------------------------------------------------------------------

@ Sums begin at −8·Σx, since u = a + 8.
.macro dt_int4_begin tokens
    ldr     r12, [sp, #DT4_CORRECTION]
    .if \tokens == 1
    ldr     r2, [r12], #4
    .elseif \tokens == 2
    ldm     r12!, {r2, r4}
    .else
    ldm     r12!, {r2, r4, r6}
    mov     r7, r6
    .endif
    .if \tokens > 1
    mov     r5, r4
    .endif
    mov     r3, r2
    str     r12, [sp, #DT4_CORRECTION]
.endm

@ One token: \low = Σ a·x and \both = 16·Σ b·x + Σ a·x, times the multipliers.
.macro dt_int4_add both, low, total_a, total_b
    vmov    r10, r11, \total_a, \total_b
    sub     \both, \both, \low
    asr     \both, \both, #4
    mla     r10, r8, \low, r10
    mla     r11, r9, \both, r11
    vmov    \total_a, \total_b, r10, r11
.endm

.macro dt_int4_end tokens
    ldr     r12, [sp, #DT4_MULTIPLIERS]
    ldrb    r9, [r12], #1
    str     r12, [sp, #DT4_MULTIPLIERS]
    and     r8, r9, #15
    lsr     r9, r9, #4
    dt_int4_add r2, r3, s0, s1
    .if \tokens > 1
    dt_int4_add r4, r5, s2, s3
    .endif
    .if \tokens > 2
    dt_int4_add r6, r7, s4, s5
    .endif
.endm

@ ---- a whole matrix --------------------------------------------------------------------------

@ The fields of `Job`, which becomes the stack frame.
    .equ    DT4_X, 0
    .equ    DT4_CORRECTIONS, 4
    .equ    DT4_CORRECTION, 8
    .equ    DT4_MULTIPLIERS, 12
    .equ    DT4_X_GROUPS_END, 16
    .equ    DT4_X_END, 20
    .equ    DT4_SCALE, 24
    .equ    DT4_BIAS, 28
    .equ    DT4_Y, 32
    .equ    DT4_STRIDE, 36
    .equ    DT4_END, 40
    .equ    DT4_X_SCALE, 44
    .equ    DT4_FINISH, 56
    .equ    DT4_SKIP, 60
    .equ    DT4_FRAME, 68               @ 17 words, which keeps the stack aligned

@ r0: packed weights, r1: the job.
.macro dt_int4_matrix tokens
    .section .text.dt_core_int4_\tokens, "ax", %progbits
    .global dt_core_int4_\tokens
    .type   dt_core_int4_\tokens, %function
    .thumb_func
    .balign 4
dt_core_int4_\tokens:
    push    {r4-r11, lr}
    sub     sp, sp, #DT4_FRAME
    ldm     r1!, {r2-r9}
    stm     sp, {r2-r9}
    ldm     r1, {r2-r10}
    add     r1, sp, #DT4_Y
    stm     r1, {r2-r10}
    vldr    s13, [sp, #DT4_X_SCALE]
    vldr    s14, [sp, #DT4_X_SCALE + 4]
    vldr    s15, [sp, #DT4_X_SCALE + 8]

    ldr     r2, [sp, #DT4_SKIP]
    cmp     r2, #0
    bne     6f

    @ A row pair: totals are zero, activations begin again.
1:  ldrd    r1, r2, [sp, #DT4_X]        @ and corrections
    str     r2, [sp, #DT4_CORRECTION]
    movs    r2, #0
    vmov    s0, s1, r2, r2
    .if \tokens > 1
    vmov    s2, s3, r2, r2
    .endif
    .if \tokens > 2
    vmov    s4, s5, r2, r2
    .endif
    b       3f

    @ A group of 32 columns.
2:  dt_int4_begin \tokens
    .if \tokens == 1
    .rept 4
    dt_int4_two_words_1
    .endr
    .else
    .rept 8
    dt_int4_word_\tokens
    .endr
    .endif
    dt_int4_end \tokens
3:  ldr     r12, [sp, #DT4_X_GROUPS_END]
    cmp     r1, r12
    bne     2b

    @ The last columns of a row may be fewer.
    ldr     r12, [sp, #DT4_X_END]
    cmp     r1, r12
    beq     5f
    dt_int4_begin \tokens
4:  dt_int4_word_\tokens
    ldr     r12, [sp, #DT4_X_END]
    cmp     r1, r12
    bne     4b
    dt_int4_end \tokens

5:  ldr     pc, [sp, #DT4_FINISH]

    @ The finish of whole rows, in floats.
    .balign 4
    .global dt_core_int4_whole_\tokens
dt_core_int4_whole_\tokens:
    ldrd    r8, r9, [sp, #DT4_SCALE]    @ and bias
    ldrd    r10, r11, [sp, #DT4_Y]      @ and stride
    vldmia  r8!, {s6-s7}
    vldmia  r9!, {s8-s9}
    strd    r8, r9, [sp, #DT4_SCALE]
    .if \tokens == 1
    dt_scale_last s0, s1, s13
    str     r10, [sp, #DT4_Y]
    .else
    add     r12, r10, #8
    str     r12, [sp, #DT4_Y]
    dt_scale s0, s1, s13
    .if \tokens == 2
    dt_scale_last s2, s3, s14
    .else
    dt_scale s2, s3, s14
    dt_scale_last s4, s5, s15
    .endif
    .endif
    ldr     lr, [sp, #DT4_END]
    cmp     r8, lr
    bne     1b
    b       7f

    @ A part of a row pair: totals, as integers, lie where the outputs will.
6:  ldrd    r1, r2, [sp, #DT4_X]        @ and corrections
    str     r2, [sp, #DT4_CORRECTION]
    ldrd    r10, r11, [sp, #DT4_Y]      @ and stride
    vldmia  r10, {s0-s1}
    .if \tokens > 1
    add     r10, r10, r11
    vldmia  r10, {s2-s3}
    .endif
    .if \tokens > 2
    add     r10, r10, r11
    vldmia  r10, {s4-s5}
    .endif
    b       3b

    @ The finish of a part; what is between it and the next pair's is skipped.
    .balign 4
    .global dt_core_int4_part_\tokens
dt_core_int4_part_\tokens:
    ldrd    r8, r9, [sp, #DT4_SKIP]
    ldr     r12, [sp, #DT4_MULTIPLIERS]
    add     r0, r0, r8
    add     r12, r12, r9
    str     r12, [sp, #DT4_MULTIPLIERS]
    ldrd    r10, r11, [sp, #DT4_Y]      @ and stride
    add     r12, r10, #8
    str     r12, [sp, #DT4_Y]
    vstmia  r10, {s0-s1}
    .if \tokens > 1
    add     r10, r10, r11
    vstmia  r10, {s2-s3}
    .endif
    .if \tokens > 2
    add     r10, r10, r11
    vstmia  r10, {s4-s5}
    .endif
    ldr     lr, [sp, #DT4_END]
    cmp     r12, lr
    bne     6b

7:  add     sp, sp, #DT4_FRAME
    pop     {r4-r11, pc}
    .size   dt_core_int4_\tokens, . - dt_core_int4_\tokens
.endm

    dt_int4_matrix 1
    dt_int4_matrix 2
    dt_int4_matrix 3

@ ---- corrections -----------------------------------------------------------------------------

@ −8·Σx of each token's next two activations.
.macro dt_int4_correct tokens
    .if \tokens == 1
    ldr     r8, [r0], #4
    .elseif \tokens == 2
    ldrd    r8, r9, [r0], #8
    smlad   r5, r9, r3, r5
    .else
    ldm     r0!, {r8, r9, r12}
    smlad   r5, r9, r3, r5
    smlad   r6, r12, r3, r6
    .endif
    smlad   r4, r8, r3, r4
.endm

@ r0: activations, r1: their end, r2: where the corrections go, one per group of columns and token.
.macro dt_int4_corrections tokens
    .section .text.dt_core_int4_corrections_\tokens, "ax", %progbits
    .global dt_core_int4_corrections_\tokens
    .type   dt_core_int4_corrections_\tokens, %function
    .thumb_func
dt_core_int4_corrections_\tokens:
    push    {r4-r6, r8, r9, lr}
    mvn     r3, #0x00070007             @ (−8, −8)
1:  add     lr, r0, #(64 * \tokens)     @ 32 columns, or what is left
    cmp     lr, r1
    it      hi
    movhi   lr, r1
    movs    r4, #0
    movs    r5, #0
    movs    r6, #0
2:  dt_int4_correct \tokens
    dt_int4_correct \tokens
    cmp     r0, lr
    bne     2b
    .if \tokens == 1
    str     r4, [r2], #4
    .elseif \tokens == 2
    stm     r2!, {r4, r5}
    .else
    stm     r2!, {r4, r5, r6}
    .endif
    cmp     r0, r1
    bne     1b
    pop     {r4-r6, r8, r9, pc}
    .size   dt_core_int4_corrections_\tokens, . - dt_core_int4_corrections_\tokens
.endm

    dt_int4_corrections 1
    dt_int4_corrections 2
    dt_int4_corrections 3
