@ The inner loops of `mve.rs`, which has the register and memory diagrams.

    .syntax unified
    .thumb

@ ---- sixteen columns of a row pair, packed int4 ----------------------------------------------

@ Activations of all tokens with the weights in q2 (a, first columns), q0 (a, last), q3 (b), q1. Addresses in q7 are those of
@ the block before.
.macro dt_mve_multiply tokens
    vldrw.u32   q4, [q7, #(32 * \tokens)]!
    vmladava.s16 r2, q2, q4
    vmladava.s16 r4, q3, q4
    vldrw.u32   q4, [q7, #4]
    vmladava.s16 r2, q0, q4
    vmladava.s16 r4, q1, q4
    .if \tokens > 1
    vldrw.u32   q4, [q7, #8]
    vmladava.s16 r6, q2, q4
    vmladava.s16 r8, q3, q4
    vldrw.u32   q4, [q7, #12]
    vmladava.s16 r6, q0, q4
    vmladava.s16 r8, q1, q4
    .endif
    .if \tokens > 2
    vldrw.u32   q4, [q7, #16]
    vmladava.s16 r10, q2, q4
    vmladava.s16 r12, q3, q4
    vldrw.u32   q4, [q7, #20]
    vmladava.s16 r10, q0, q4
    vmladava.s16 r12, q1, q4
    .endif
.endm

@ The same for the last few columns, of which VCTP knows the number.
.macro dt_mve_multiply_some_of offset, sum_a, sum_b
    vpst
    vldrwt.u32  q4, [q7, #\offset]
    vmladava.s16 \sum_a, q2, q4
    vmladava.s16 \sum_b, q3, q4
    vpst
    vldrwt.u32  q4, [q7, #\offset + 4]
    vmladava.s16 \sum_a, q0, q4
    vmladava.s16 \sum_b, q1, q4
.endm

.macro dt_mve_multiply_some tokens
    dt_mve_multiply_some_of 32 * \tokens, r2, r4
    .if \tokens > 1
    dt_mve_multiply_some_of 32 * \tokens + 8, r6, r8
    .endif
    .if \tokens > 2
    dt_mve_multiply_some_of 32 * \tokens + 16, r10, r12
    .endif
.endm

.macro dt_mve_begin tokens
    vmov        q7, q6
    movs        r2, #0
    movs        r4, #0
    .if \tokens > 1
    movs        r6, #0
    mov         r8, r2
    .endif
    .if \tokens > 2
    mov         r10, r2
    mov         r12, r2
    .endif
.endm

@ ---- a whole matrix of packed i8 --------------------------------------------------------------

@ Eight halfwords 256·a + u in q0 → a in q1, u in q0.
.macro dt_mve_widen
    vmovlt.s8   q1, q0
    vmovlb.u8   q0, q0
.endm

@ One token's activations for them, \offset behind the addresses in q7.
.macro dt_mve_products sum_a, sum_u, offset
    vldrd.u64   q4, [q7, #\offset]
    vmladava.s16 \sum_a, q1, q4
    vmladava.s16 \sum_u, q0, q4
.endm

@ Eight columns.
.macro dt_mve_block tokens
    vldrh.u16   q0, [r0], #16
    dt_mve_widen
    vldrd.u64   q4, [q7, #(16 * \tokens)]!
    vmladava.s16 r2, q1, q4
    vmladava.s16 r4, q0, q4
    .if \tokens > 1
    dt_mve_products r6, r8, 8
    .endif
    .if \tokens > 2
    dt_mve_products r10, r12, 16
    .endif
.endm

@ The last four columns of a row, which VCTP counted before the first row.
.macro dt_mve_half_of sum_a, sum_u, offset
    vpst
    vldrdt.u64  q4, [q7, #\offset]
    vmladava.s16 \sum_a, q1, q4
    vmladava.s16 \sum_u, q0, q4
.endm

.macro dt_mve_half tokens
    vpst
    vldrht.u16  q0, [r0]
    adds        r0, #8
    dt_mve_widen
    dt_mve_half_of r2, r4, 16 * \tokens
    .if \tokens > 1
    dt_mve_half_of r6, r8, 16 * \tokens + 8
    .endif
    .if \tokens > 2
    dt_mve_half_of r10, r12, 16 * \tokens + 16
    .endif
.endm

@ r0: packed weights, r1: the job.
.macro dt_mve_matrix tokens
    .section .text.dt_core_mve_\tokens, "ax", %progbits
    .global dt_core_mve_\tokens
    .type   dt_core_mve_\tokens, %function
    .thumb_func
    .balign 4
dt_core_mve_\tokens:
    push    {r4-r11, lr}
    vpush   {d8-d15}
    sub     sp, #28
    vldrw.u32 q6, [r1]                  @ addresses of activations
    ldrd    r3, r5, [r1, #16]           @ blocks of eight columns, and columns after them
    ldrd    r7, r9, [r1, #24]           @ sums of the first token, and bytes from one token's to the next one's
    ldr     r1, [r1, #32]               @ row pairs
    add     r9, r7, r9
    sub     r11, r9, r7
    add     r11, r9, r11

    @ Sums of u·x begin at −128·Σx, since u = b + 128.
    vmov    q7, q6
    movs    r2, #0
    movs    r4, #0
    movs    r6, #0
    movs    r8, #0
    movs    r10, #0
    movs    r12, #0
    wls     lr, r3, 2f
1:  vldrd.u64 q4, [q7, #(16 * \tokens)]!
    vaddva.s16 r4, q4
    .if \tokens > 1
    vldrd.u64 q4, [q7, #8]
    vaddva.s16 r8, q4
    .endif
    .if \tokens > 2
    vldrd.u64 q4, [q7, #16]
    vaddva.s16 r12, q4
    .endif
    le      lr, 1b
2:  vctp.16 r5
    vpst
    vldrdt.u64 q4, [q7, #(16 * \tokens)]
    vaddva.s16 r4, q4
    .if \tokens > 1
    vpst
    vldrdt.u64 q4, [q7, #(16 * \tokens + 8)]
    vaddva.s16 r8, q4
    .endif
    .if \tokens > 2
    vpst
    vldrdt.u64 q4, [q7, #(16 * \tokens + 16)]
    vaddva.s16 r12, q4
    .endif
    lsl     r4, r4, #7
    rsb     r4, r4, #0
    lsl     r8, r8, #7
    rsb     r8, r8, #0
    lsl     r12, r12, #7
    rsb     r12, r12, #0
    stm     sp, {r2, r4, r6, r8, r10, r12}
    and     r2, r3, #1
    str     r2, [sp, #24]
    lsrs    r3, r3, #1

1:  vmov    q7, q6
    .if \tokens == 1
    ldm     sp, {r2, r4}
    .elseif \tokens == 2
    ldm     sp, {r2, r4, r6, r8}
    .else
    ldm     sp, {r2, r4, r6, r8, r10, r12}
    .endif
    wls     lr, r3, 3f
2:  dt_mve_block \tokens
    dt_mve_block \tokens
    le      lr, 2b
3:  ldr     lr, [sp, #24]
    cmp     lr, #0
    bne     6f
4:  cmp     r5, #0
    bne     7f
5:  strd    r2, r4, [r7], #8
    .if \tokens > 1
    strd    r6, r8, [r9], #8
    .endif
    .if \tokens > 2
    strd    r10, r12, [r11], #8
    .endif
    subs    r1, #1
    bne     1b
    add     sp, #28
    vpop    {d8-d15}
    pop     {r4-r11, pc}

6:  dt_mve_block \tokens
    b       4b
7:  dt_mve_half \tokens
    b       5b
    .size   dt_core_mve_\tokens, . - dt_core_mve_\tokens
.endm

    dt_mve_matrix 1
    dt_mve_matrix 2
    dt_mve_matrix 3

@ ---- a whole matrix of packed int4 ------------------------------------------------------------

@ Four words in q0, a byte 16·b + a + 8 per column → the rows' weights as above. r1, r3: the rows' multipliers, r5: 8, q5: 15.
.macro dt_mve_decode
    vmovlb.s8   q2, q0
    vmovlt.s8   q0, q0
    vshr.s16    q3, q2, #4
    vshr.s16    q1, q0, #4
    vand        q2, q2, q5
    vand        q0, q0, q5
    vsub.i16    q2, q2, r5
    vsub.i16    q0, q0, r5
    vmul.i16    q2, q2, r1
    vmul.i16    q0, q0, r1
    vmul.i16    q3, q3, r3
    vmul.i16    q1, q1, r3
.endm

.macro dt_mve_multipliers
    ldrb    r1, [r11], #1
    lsrs    r3, r1, #4
    and     r1, r1, #15
.endm

@ r0: packed weights, r1: the job, r2: multipliers.
.macro dt_mve_int4 tokens
    .section .text.dt_core_mve_int4_\tokens, "ax", %progbits
    .global dt_core_mve_int4_\tokens
    .type   dt_core_mve_int4_\tokens, %function
    .thumb_func
    .balign 4
dt_core_mve_int4_\tokens:
    push    {r4-r11, lr}
    vpush   {d8-d15}
    sub     sp, #24
    mov     r11, r2
    vldrw.u32 q6, [r1]                  @ addresses of activations
    ldrd    r2, r3, [r1, #16]           @ blocks and groups of four columns after them
    ldrd    r4, r5, [r1, #24]           @ sums and stride
    ldr     r6, [r1, #32]               @ row pairs
    strd    r2, r3, [sp]
    strd    r4, r5, [sp, #8]
    str     r6, [sp, #16]
    vmov.i16 q5, #15
    movs    r5, #8

1:  dt_mve_begin \tokens
    ldr     r9, [sp]
    lsrs    r7, r9, #1                  @ a multiplier per two blocks
    wls     lr, r7, 3f
2:  dt_mve_multipliers
    .rept 2
    vldrw.u32 q0, [r0], #16
    dt_mve_decode
    dt_mve_multiply \tokens
    .endr
    le      lr, 2b
3:  ldr     r7, [sp, #4]
    and     r9, r9, #1
    orrs    r1, r7, r9
    beq     5f
    dt_mve_multipliers
    cmp     r9, #0
    beq     4f
    vldrw.u32 q0, [r0], #16
    dt_mve_decode
    dt_mve_multiply \tokens
4:  cmp     r7, #0
    beq     5f
    vctp.32 r7
    vpst
    vldrwt.u32 q0, [r0]
    add     r0, r0, r7, lsl #2
    dt_mve_decode
    dt_mve_multiply_some \tokens
5:  ldrd    r7, r9, [sp, #8]
    strd    r2, r4, [r7]
    add     r1, r7, #8
    .if \tokens > 1
    add     r7, r7, r9
    strd    r6, r8, [r7]
    .endif
    .if \tokens > 2
    add     r7, r7, r9
    strd    r10, r12, [r7]
    .endif
    str     r1, [sp, #8]
    ldr     r1, [sp, #16]
    subs    r1, #1
    str     r1, [sp, #16]
    bne     1b
    add     sp, #24
    vpop    {d8-d15}
    pop     {r4-r11, pc}
    .size   dt_core_mve_int4_\tokens, . - dt_core_mve_int4_\tokens
.endm

    dt_mve_int4 1
    dt_mve_int4 2
    dt_mve_int4 3

@ ---- floats -----------------------------------------------------------------------------------

.macro dt_mve_function name
    .section .text.\name, "ax", %progbits
    .global \name
    .type   \name, %function
    .thumb_func
    .balign 4
\name:
.endm

@ r0: sums, which become floats, r1: scale, r2: bias, r3: their number, s0: scale of the activations.
    dt_mve_function dt_core_mve_dequantize
    push    {r4, lr}
    vmov    r4, s0
    wlstp.32 lr, r3, 2f
1:  vldrw.u32 q0, [r0]
    vcvt.f32.s32 q0, q0
    vldrw.u32 q1, [r1], #16
    vmul.f32 q1, q1, r4
    vmul.f32 q0, q0, q1
    vldrw.u32 q2, [r2], #16
    vadd.f32 q0, q0, q2
    vstrw.32 q0, [r0], #16
    letp    lr, 1b
2:  pop     {r4, pc}
    .size   dt_core_mve_dequantize, . - dt_core_mve_dequantize

@ r0: x, r1: its length; returns the largest magnitude's bits. Magnitudes are kept doubled: the sign is shifted out.
    dt_mve_function dt_core_mve_magnitude
    push    {r4, lr}
    vmov.i32 q0, #0
    wlstp.32 lr, r1, 2f
1:  vldrw.u32 q1, [r0], #16
    vshl.i32 q1, q1, #1
    vmax.u32 q0, q0, q1
    letp    lr, 1b
2:  movs    r0, #0
    vmaxv.u32 r0, q0
    lsrs    r0, r0, #1
    pop     {r4, pc}
    .size   dt_core_mve_magnitude, . - dt_core_mve_magnitude

@ r0: x, r1: groups of four, r2: where they go as i16, r3: bytes from one group to the next, s0: what x is multiplied with.
@ Adding 1.5·2²³ leaves the nearest integer in the low half of the float.
    dt_mve_function dt_core_mve_quantize
    push    {r4, lr}
    vmov    r4, s0
    movw    r12, #0
    movt    r12, #0x4b40
    wls     lr, r1, 2f
1:  vldrw.u32 q0, [r0], #16
    vmul.f32 q0, q0, r4
    vadd.f32 q0, q0, r12
    vstrh.32 q0, [r2]
    add     r2, r2, r3
    le      lr, 1b
2:  pop     {r4, pc}
    .size   dt_core_mve_quantize, . - dt_core_mve_quantize

@ r0: x, r1: its length. As signed integers, what is negative reaches from −0 up to −∞ (0xff800000), which stays, as does NaN above.
    dt_mve_function dt_core_mve_relu
    push    {r4, lr}
    movw    r2, #0
    movt    r2, #0xff80
    wlstp.32 lr, r1, 2f
1:  vldrw.u32 q0, [r0]
    vpt.s32 lt, q0, r2
    vmovt.i32 q0, #0
    vstrw.32 q0, [r0], #16
    letp    lr, 1b
2:  pop     {r4, pc}
    .size   dt_core_mve_relu, . - dt_core_mve_relu

@ Eight partial sums in q0 and q1 → their sum in s0, in the order of the numerics contract.
.macro dt_mve_fold
    vadd.f32 q0, q0, q1
    vadd.f32 s0, s0, s2
    vadd.f32 s1, s1, s3
    vadd.f32 s0, s0, s1
.endm

@ r0: x, r1: blocks of eight, at least one, r2: weight, r3: bias, on the stack: out; s0: their number, s1: ε. Returns 1 / √(variance + ε).
    dt_mve_function dt_core_mve_layer_norm
    push    {r4-r7, lr}
    vpush   {d8, d9}
    vmov.f32 s16, s0
    vmov.f32 s17, s1
    ldr     r5, [sp, #20 + 16]

    @ r6: mean.
    mov     r4, r0
    vmov.i32 q0, #0
    vmov.i32 q1, #0
    dls     lr, r1
1:  vldrw.u32 q2, [r4], #16
    vadd.f32 q0, q0, q2
    vldrw.u32 q3, [r4], #16
    vadd.f32 q1, q1, q3
    le      lr, 1b
    dt_mve_fold
    vdiv.f32 s0, s0, s16
    vmov    r6, s0

    @ r7: 1 / √(variance + ε).
    mov     r4, r0
    vmov.i32 q0, #0
    vmov.i32 q1, #0
    dls     lr, r1
2:  vldrw.u32 q2, [r4], #16
    vsub.f32 q2, q2, r6
    vmul.f32 q2, q2, q2
    vadd.f32 q0, q0, q2
    vldrw.u32 q3, [r4], #16
    vsub.f32 q3, q3, r6
    vmul.f32 q3, q3, q3
    vadd.f32 q1, q1, q3
    le      lr, 2b
    dt_mve_fold
    vdiv.f32 s0, s0, s16
    vadd.f32 s0, s0, s17
    vsqrt.f32 s0, s0
    vmov.f32 s1, #1.0
    vdiv.f32 s0, s1, s0
    vmov    r7, s0

    lsls    r1, #1
    dls     lr, r1
3:  vldrw.u32 q0, [r0], #16
    vsub.f32 q0, q0, r6
    vmul.f32 q0, q0, r7
    vldrw.u32 q1, [r2], #16
    vmul.f32 q0, q0, q1
    vldrw.u32 q2, [r3], #16
    vadd.f32 q0, q0, q2
    vstrw.32 q0, [r5], #16
    le      lr, 3b
    vmov    s0, r7
    vpop    {d8, d9}
    pop     {r4-r7, pc}
    .size   dt_core_mve_layer_norm, . - dt_core_mve_layer_norm
