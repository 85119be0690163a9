#!/usr/bin/env bash
# GRPO with the STAR reward on ms-swift 4.6 (vLLM). Written by 'star-r1 export ms-swift'.
#
#   bash run.sh                                                     # one node, 8 cards, 7B
#   MODEL=Qwen/Qwen2.5-VL-3B-Instruct GPUS=4 bash run.sh
#   bash run.sh --learning_rate 2e-6                                # any flag of ms-swift
#   bash run.sh --tuner_type lora                                   # an adapter only
#   bash run.sh --reward_funcs star_without_object                  # as registered in plugin.py
#
# Several nodes: this folder at the same path and star-r1 on all of them; then on each
#   NODES=4 NODE_RANK=0 MASTER_ADDR=FIRST bash run.sh               # rank 0 to 3
#
# The numbers are stand-ins (Reason-RFT's on the same data: STAR-R1's are unpublished), as in
# recipes/ of star-r1; the 16 prompts a step are this project's choice. They are 8 cards x 8
# completions x 2 accumulated: keep the product.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")" # paths of pictures are relative to this folder
MODEL=${MODEL:-Qwen/Qwen2.5-VL-7B-Instruct}
OUT=${OUT:-run}
export NNODES=${NODES:-1}
export NPROC_PER_NODE=${GPUS:-8}
export MAX_PIXELS=${MAX_PIXELS:-480000}

VAL=(--val_dataset val.jsonl --eval_steps 100)
if [ ! -e val.jsonl ]; then
  VAL=(--split_dataset_ratio 0)
fi

exec swift rlhf \
  --rlhf_type grpo \
  --model "$MODEL" \
  --dataset train.jsonl \
  --external_plugins plugin.py \
  --reward_funcs star \
  --tuner_type full \
  --freeze_vit true \
  --torch_dtype bfloat16 \
  --deepspeed zero3 \
  --use_vllm true \
  --vllm_mode colocate \
  --vllm_gpu_memory_utilization 0.5 \
  --sleep_level 1 \
  --num_generations 8 \
  --per_device_train_batch_size 8 \
  --gradient_accumulation_steps 2 \
  --max_length 4096 \
  --max_completion_length 512 \
  --temperature 0.9 \
  --top_p 0.9 \
  --top_k 50 \
  --learning_rate 1e-6 \
  --beta 0.04 \
  --epsilon 0.2 \
  --loss_type grpo \
  --num_train_epochs 1 \
  --seed 0 \
  --logging_steps 1 \
  --log_completions true \
  --save_steps 100 \
  --save_total_limit 2 \
  --report_to tensorboard \
  --output_dir "$OUT" \
  "${VAL[@]}" "$@"
